"""What Weights & Biases would upload: read from the files of its offline runs."""

from __future__ import annotations

import json
import struct
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clbench import record
from clbench.cli.main import run
from clbench.metrics import seen_accuracy
from clbench.record import Status
from clbench.tracker import trackers
from tests.conftest import MakeRecord

pytest.importorskip("wandb", reason="Weights & Biases is not installed")
BLOCK = 32768  # bytes


def rows(folder: Path) -> dict[str, list[Any]]:
    """The records of an offline run by their kind.

    The file is LevelDB's log: blocks of 32 KiB, in them pieces with a checksum (4), length (2) and kind (1: whole, 2:
    first, 3: middle, 4: last). It begins with seven bytes of its own.
    """
    from wandb.proto import wandb_internal_pb2

    (path,) = folder.glob("*.wandb")
    data, at, text, found = path.read_bytes(), 7, b"", dict[str, list[Any]]()
    while at + 7 <= len(data):
        if BLOCK - at % BLOCK < 7:  # the rest of a block holds no header
            at += BLOCK - at % BLOCK
        size, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        text, at = text + data[at + 7 : at + 7 + size], at + 7 + size
        if kind in (1, 4):
            entry = wandb_internal_pb2.Record()
            entry.ParseFromString(text)
            found.setdefault(entry.WhichOneof("record_type"), []).append(entry)
            text = b""
    return found


def items(entries: Any) -> dict[str, Any]:
    return {entry.key or "/".join(entry.nested_key): json.loads(entry.value_json) for entry in entries}


def history(folder: Path) -> list[tuple[int, float]]:
    told = [items(entry.history.item) for entry in rows(folder)["history"]]
    return [(one["_step"], one["accuracy/seen"]) for one in told]


def folders(output: Path) -> list[Path]:
    return sorted((output / "wandb" / "wandb").glob("offline-run-*"), key=lambda path: path.stat().st_mtime_ns)


@pytest.fixture(autouse=True)
def _offline_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)


def test_a_command_leaves_offline_runs_with_the_records_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert (
        run(["run", "protocol=single", "strategy.epochs=1", "tracker=wandb", "strategy.lr=0.02", "executor=in_process"])
        == 0
    )
    (found,) = record.find([Path("runs")])
    (folder,) = folders(Path("runs"))
    assert history(folder) == [(t + 1, value) for t, value in enumerate(seen_accuracy(found))]
    told = rows(folder)
    (begun,) = told["run"]
    assert (begun.run.run_id, begun.run.run_group, begun.run.job_type) == (found.run, "digits naive", "evaluation")
    assert set(begun.run.tags) == {"runs", "digits", "naive", "evaluation", "seed 0"}
    assert items(begun.run.config.update)["strategy.lr"] == 0.02
    summary = {key: value for entry in told["summary"] for key, value in items(entry.summary.update).items()}
    assert summary["final/last_accuracy"] == seen_accuracy(found)[-1]
    assert summary["status"] == "finished"


def test_a_run_that_goes_on_continues_under_its_id_without_doubled_steps(
    tmp_path: Path, make_record: MakeRecord
) -> None:
    whole = make_record(((90,), (60, 80), (50, 70, 90)), run="0123456789abcdef")
    begun = replace(whole, status=Status.RUNNING, measurements=whole.measurements[:3], costs=whole.costs[:2])
    _, config = trackers.load("wandb")
    for found in (begun, whole):
        record.write(tmp_path / "run", found)
        tracker = trackers.build(config(), tmp_path)
        tracker.add(tmp_path / "run")
        tracker.stop()
    first, second = folders(tmp_path)
    assert [rows(folder)["run"][0].run.run_id for folder in (first, second)] == [whole.run] * 2
    assert history(first) + history(second) == [(1, 90.0), (2, 70.0), (3, 70.0)]


def test_the_mode_of_the_environment_is_respected(
    tmp_path: Path, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    record.write(tmp_path / "run", make_record())
    _, config = trackers.load("wandb")
    tracker = trackers.build(config(), tmp_path)
    tracker.add(tmp_path / "run")
    tracker.stop()
    assert folders(tmp_path) == []


def test_without_the_package_there_is_one_line_and_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert run(["run", "tracker=wandb"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "tracker=wandb needs a package" in line
    assert not list(tmp_path.rglob("record.json"))


def test_one_command_has_one_tracker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["run", "tracker=none,wandb"]) == 2
    assert "tracker must be one for all jobs of one command" in capsys.readouterr().err
