from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from clbench import engine, record
from clbench.errors import ClbenchError, IncompatibleError
from clbench.record import Record, Setting, Status
from clbench.strategy import strategies
from tests.runs import make, result


def test_a_run_leaves_a_whole_record(tmp_path: Path) -> None:
    found = engine.execute(make(tmp_path))
    assert found.status is Status.FINISHED
    assert record.read(make(tmp_path).folder) == found
    assert [(m.after, m.experience) for m in found.measurements] == [(t, j) for t in range(1, 6) for j in range(t)]
    assert sum(e.train for e in found.experiences) == 1437
    assert sum(m.total for m in found.measurements if m.after == 5) == 360
    assert found.environment.packages["torch"] == torch.__version__
    assert all(cost.learn_seconds > 0 and cost.stored_bytes > 0 and cost.peak_bytes for cost in found.costs)
    assert sorted(path.name for path in make(tmp_path).folder.iterdir()) == ["lock", "record.json"]


def test_a_task_incremental_run_measures_all_experiences_before_and_after(tmp_path: Path) -> None:
    found = engine.execute(make(tmp_path, setting=Setting.TASK_INCREMENTAL))
    assert [(m.after, m.experience) for m in found.measurements] == [(t, j) for t in range(6) for j in range(5)]


def test_a_record_says_which_paths_its_kernels_took(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted, write = {"ema_merge_": ["torch: on cpu"], "replay_gather": ["torch: on cpu"]}, record.write

    def dies(folder: Path, found: Record) -> None:
        write(folder, found)
        if found.learnt == 2:
            raise KeyboardInterrupt

    run = make(tmp_path, "coin", epochs=1)
    with monkeypatch.context() as patch:
        patch.setattr(record, "write", dies)
        with pytest.raises(KeyboardInterrupt):
            engine.execute(run)
    monkeypatch.setenv("CLBENCH_KERNELS", "torch")  # from here on
    assert engine.execute(run).notes["kernels"] == {
        name: ["torch: asked for", *paths] for name, paths in wanted.items()
    }
    monkeypatch.delenv("CLBENCH_KERNELS")
    assert engine.execute(make(tmp_path, epochs=1)).notes == {"kernels": {"replay_gather": ["torch: on cpu"]}}


def test_images_have_neither_probes_nor_answers_to_read(tmp_path: Path) -> None:
    run = make(tmp_path)
    assert engine.execute(run).probes == ()
    assert not (run.folder / "generations").exists()


@pytest.mark.parametrize("name", ["lora", "lora_merge", "olora"])
def test_a_strategy_for_texts_does_not_open_a_stream_of_images(tmp_path: Path, name: str) -> None:
    _, config = strategies.load(name)
    with pytest.raises(
        IncompatibleError, match=rf"^strategy {name} learns texts only, and digits is a stream of images$"
    ):
        engine.execute(replace(make(tmp_path), strategy=config()))


def test_the_global_random_state_is_neither_read_nor_written(tmp_path: Path) -> None:
    torch.manual_seed(1)
    first = engine.execute(make(tmp_path / "one", "hft"))
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    second = engine.execute(make(tmp_path / "other", "hft"))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert result(first) == result(second)


def test_a_diverged_run_is_kept_with_the_reason(tmp_path: Path) -> None:
    found = engine.execute(make(tmp_path, "naive", lr=1e6))
    assert found.status is Status.DIVERGED
    assert "the loss of experience 0 is" in found.problem
    assert found.measurements == ()
    assert engine.execute(make(tmp_path, "naive", lr=1e6)) == found


def test_a_strategy_that_cannot_take_the_problem_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cls, _ = strategies.load("replay")
    monkeypatch.setattr(cls, "skip", classmethod(lambda *_: "it needs a language model"))
    with pytest.raises(IncompatibleError, match="strategy replay cannot run here: it needs a language model"):
        engine.execute(make(tmp_path))


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ClbenchError, match=r"cannot write to .* choose another output=FOLDER"):
        engine.execute(make(tmp_path / "file"))
