from __future__ import annotations

from pathlib import Path

import pytest

from clbench.errors import DataError
from clbench.places import find_file, text_folder


def test_a_suite_is_looked_for_under_the_root_first_and_under_text_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for base in ("one/tasks", "two/text/tasks", "two/tasks"):
        (tmp_path / base).mkdir(parents=True)
    monkeypatch.setenv("CLBENCH_DATA", str(tmp_path / "two"))
    assert text_folder(tmp_path / "one", ["tasks"]) == tmp_path / "one" / "tasks"
    assert text_folder(tmp_path / "none", ["other", "tasks"]) == tmp_path / "two" / "text" / "tasks"
    monkeypatch.delenv("CLBENCH_DATA")
    with pytest.raises(DataError, match=r"^no folder text/tasks/ or tasks/ under .*data\.root=FOLDER$"):
        text_folder(None, ["tasks"])


def test_a_file_is_looked_for_from_here_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("here", "root"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.json").write_text(folder)
    (tmp_path / "root" / "b.json").write_text("b")
    monkeypatch.chdir(tmp_path / "here")
    assert find_file(tmp_path / "root", Path("a.json")).read_text() == "here"
    assert find_file(tmp_path / "root", Path("b.json")).read_text() == "b"
    with pytest.raises(DataError, match=r"^no file 'c\.json' \(looked from: here"):
        find_file(tmp_path / "root", Path("c.json"))
