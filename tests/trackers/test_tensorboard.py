"""Event files, as TensorBoard itself reads them."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clbench import record
from clbench.cli.main import run
from clbench.metrics import METRICS, accuracy_matrix, seen_accuracy
from clbench.record import Record, Status
from clbench.tracker import LogTracker, trackers
from tests.conftest import MakeRecord

pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
ROOT = Path(__file__).parent.parent.parent
WORDS = ("run", "protocol=single", "strategy.epochs=6", "executor.threads=1", "tracker=tensorboard")


def tracker(output: Path) -> LogTracker:
    _, config = trackers.load("tensorboard")
    made = trackers.build(config(), output)
    assert isinstance(made, LogTracker)
    return made


def events(output: Path) -> Any:
    """What TensorBoard makes of the one run that was logged."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (folder,) = {path.parent for path in (output / "tensorboard").rglob("events.out.*")}
    read = EventAccumulator(str(folder))
    read.Reload()
    return read


def scalars(output: Path) -> dict[str, list[tuple[int, float]]]:
    read = events(output)
    return {name: [(e.step, e.value) for e in read.Scalars(name)] for name in read.Tags()["scalars"]}


def expected(found: Record) -> dict[str, list[tuple[int, float]]]:
    """What the record says, with the precision of a scalar in an event file."""
    matrix, last = accuracy_matrix(found), found.learnt
    values = {f"accuracy/experience_{j}": [(t + 1, matrix[t, j]) for t in range(j, last)] for j in range(last)}
    values["accuracy/seen"] = [(t + 1, value) for t, value in enumerate(seen_accuracy(found))]
    values["cost/learn_seconds"] = [(cost.experience + 1, cost.learn_seconds) for cost in found.costs]
    values["final/average_incremental_accuracy"] = [
        (last, METRICS["average_incremental_accuracy"].function(found)),
    ]
    return {name: [(t, float(np.float32(value))) for t, value in row] for name, row in values.items()}


def test_a_command_s_event_file_holds_the_record_s_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run([*WORDS, "strategy.lr=0.02", "executor.workers=1"]) == 0
    (found,) = record.find([Path("runs")])
    read = scalars(Path("runs"))
    assert expected(found).items() <= read.items()
    assert [t for t, _ in read["forgetting"]] == [2, 3, 4, 5]
    told = str(events(Path("runs")).summary_metadata["_hparams_/session_start_info"])
    assert "strategy.lr" in told
    assert f"seed 0 {found.run}" in next(str(path) for path in Path("runs/tensorboard").rglob("events.out.*"))


def test_a_command_that_is_killed_and_given_again_logs_each_moment_once(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "clbench", *WORDS, "strategy.epochs=40", f"output={tmp_path}"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    while process.poll() is None and not _logged(tmp_path):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert [found.status for found in record.find([tmp_path])] == [Status.RUNNING]
    assert subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL).returncode == 0
    (found,) = record.find([tmp_path])
    assert found.status is Status.FINISHED
    assert expected(found).items() <= scalars(tmp_path).items()


def _logged(output: Path) -> bool:
    return any((output / "tensorboard" / "logged").glob("*.json"))


def test_what_was_logged_and_not_noted_before_a_kill_is_not_doubled(tmp_path: Path, make_record: MakeRecord) -> None:
    whole = make_record(((90,), (60, 80), (50, 70, 90)))
    begun = replace(whole, status=Status.RUNNING, measurements=whole.measurements[:3], costs=whole.costs[:2])
    for found in (begun, whole):
        record.write(tmp_path / "run", found)
        made = tracker(tmp_path)
        made.add(tmp_path / "run")
        made.stop()
        mark = tmp_path / "tensorboard" / "logged" / f"{whole.run}.json"
        if found is begun:
            assert '"moment": 3' in mark.read_text()
            mark.write_text('{"moment": 2, "ended": false}')
    assert expected(whole).items() <= scalars(tmp_path).items()


def test_without_the_package_there_is_one_line_and_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert run([*WORDS]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "tracker=tensorboard needs a package" in line
    assert "pip install 'clbench[tensorboard]'" in line
    assert not list(tmp_path.rglob("record.json"))
