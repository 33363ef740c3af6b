from collections.abc import Callable
from pathlib import Path

import pytest

from clbench.errors import ClbenchError
from clbench.record import Record
from clbench.report.grouping import blocks
from clbench.report.plots import file_names, write
from clbench.report.view import View

Make = Callable[..., Record]


def test_files_bear_the_names_of_their_block_and_figure(make_record: Make, tmp_path: Path) -> None:
    runs = [make_record(), make_record([[90]], strategy="ewc", protocol="two_phase")]
    told = list(write(runs, tmp_path / "new" / "folder", ["svg", "png"]))
    stem = "digits-class-incremental-all-classes-3-experiences-model-small-cnn-single"
    other = "digits-class-incremental-all-classes-1-experience-model-small-cnn-two-phase"
    figures = {f"{stem}-{figure}" for figure in ("accuracy", "forgetting", "cost", "matrices")} | {f"{other}-cost"}
    made = sorted((tmp_path / "new" / "folder").iterdir())
    assert {path.name for path in made} == {f"{name}.{kind}" for name in figures for kind in ("svg", "png")}
    assert {f"  {path}" for path in made} < set(told)
    assert "  no figure forgetting: nothing can be forgotten in a stream of one experience" in told


def test_blocks_of_very_long_titles_have_files_of_their_own(make_record: Make) -> None:
    models = [{"name": "x" * 200 + end} for end in "ab"]
    names = file_names(blocks(make_record(model_config=model) for model in models))
    assert len(set(names)) == 2
    assert all(len(name) < 110 for name in names)


def test_a_folder_that_cannot_be_written_is_one_clear_line(make_record: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ClbenchError, match=r"^cannot write .*; name another folder with --output$"):
        list(write([make_record()], tmp_path / "file", ["svg"]))


def test_bad_columns_and_empty_folders_are_refused_before_anything_is_written(
    make_record: Make, tmp_path: Path
) -> None:
    with pytest.raises(ClbenchError, match=r"unknown column 'last_acuracy'. Did you mean last_accuracy"):
        list(write([make_record()], tmp_path, ["svg"], View(columns=("last_acuracy",))))
    with pytest.raises(ClbenchError, match="no finished evaluation runs in there"):
        list(write([], tmp_path, ["svg"], View(source="there")))
    assert not list(tmp_path.iterdir())
