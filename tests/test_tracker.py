"""What holds for every log, shown with one that remembers what it is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from clbench import record
from clbench.cli.main import run
from clbench.record import Record, Status
from clbench.tracker import Log, LogTracker, trackers
from tests.conftest import MakeRecord
from tests.learning import skip_without_package


@dataclass
class MemoryConfig:
    folder: Path | None = None


class Remembered(Log):
    """Keeps what it is told, and breaks where it is told to."""

    def __init__(self, breaks_at: int | None) -> None:
        self.told: list[tuple[int, str]] = []
        self.final: dict[str, float] = {}
        self.closed = False
        self.breaks_at = breaks_at

    def write(self, moment: int, values: Mapping[str, float]) -> None:
        if moment == self.breaks_at:
            raise OSError("disk full")
        self.told += [(moment, name) for name in values if name == "accuracy/seen"]

    def finish(self, moment: int, values: Mapping[str, float], status: str) -> None:
        self.final = {"moment": moment, **values}

    def close(self) -> None:
        self.closed = True


class InMemory(LogTracker):
    def __init__(self, output: Path, breaks_at: int | None = None) -> None:
        super().__init__(MemoryConfig(), output)
        self.logs: list[Remembered] = []
        self.breaks_at = breaks_at

    def open(self, found: Record, moment: int) -> Log:
        self.logs.append(Remembered(self.breaks_at))
        return self.logs[-1]


@pytest.fixture
def grown(make_record: MakeRecord) -> list[Record]:
    """A run as its record stands after one, two and three experiences, and at its end."""
    whole = make_record(((90,), (60, 80), (50, 70, 90)), status=Status.RUNNING)
    parts = [
        replace(whole, measurements=whole.measurements[:count], costs=whole.costs[:learnt])
        for learnt, count in ((1, 1), (2, 3), (3, 6))
    ]
    return [*parts, replace(whole, status=Status.FINISHED)]


def test_each_moment_is_logged_once_however_often_it_is_looked(tmp_path: Path, grown: list[Record]) -> None:
    tracker = InMemory(tmp_path)
    tracker.add(tmp_path / "run")
    tracker.look()  # there is no record yet
    for found in grown:
        record.write(tmp_path / "run", found)
        tracker.look()
        tracker.look()
    (log,) = tracker.logs
    assert log.told == [(t, "accuracy/seen") for t in (1, 2, 3)]
    assert log.final["final/last_accuracy"] == 70.0
    assert log.final["moment"] == 3
    assert log.closed


@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_a_command_that_is_given_again_goes_on_where_the_log_ends(
    tmp_path: Path, grown: list[Record], stop_after: int
) -> None:
    told = []
    for part in (grown[:stop_after], grown[stop_after:], grown[-1:]):
        tracker = InMemory(tmp_path)
        tracker.add(tmp_path / "run")
        for found in part:
            record.write(tmp_path / "run", found)
            tracker.look()
        tracker.stop()
        told += [entry for log in tracker.logs for entry in log.told]
        assert all(log.closed for log in tracker.logs)
    assert told == [(t, "accuracy/seen") for t in (1, 2, 3)]


def test_a_run_that_was_finished_before_is_logged_whole(tmp_path: Path, grown: list[Record]) -> None:
    record.write(tmp_path / "run", grown[-1])
    tracker = InMemory(tmp_path)
    tracker.add(tmp_path / "run")
    tracker.stop()
    assert [t for t, _ in tracker.logs[0].told] == [1, 2, 3]


def test_a_tracker_that_fails_says_so_once_and_the_rest_is_logged_later(
    tmp_path: Path, grown: list[Record], capsys: pytest.CaptureFixture[str]
) -> None:
    tracker = InMemory(tmp_path, breaks_at=2)
    tracker.add(tmp_path / "run")
    for found in grown:
        record.write(tmp_path / "run", found)
        tracker.look()
    tracker.stop()
    (line,) = capsys.readouterr().err.splitlines()
    assert "failed (OSError: disk full) and is left alone; the runs go on" in line
    later = InMemory(tmp_path)
    later.add(tmp_path / "run")
    later.stop()
    assert [t for log in (*tracker.logs, *later.logs) for t, _ in log.told] == [1, 2, 3]


def test_two_commands_do_not_log_the_same_run_twice(tmp_path: Path, grown: list[Record]) -> None:
    record.write(tmp_path / "run", grown[0])
    here, there = InMemory(tmp_path), InMemory(tmp_path)
    for tracker in (here, there):
        tracker.add(tmp_path / "run")
        tracker.look()
    assert [len(here.logs), len(there.logs)] == [1, 0]
    here.stop()
    record.write(tmp_path / "run", grown[1])
    there.look()  # the first has let go
    assert [t for log in (*here.logs, *there.logs) for t, _ in log.told] == [1, 2]


def test_a_damaged_record_is_not_the_trackers_business(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record.write_atomically(tmp_path / "run" / "record.json", b"{")
    tracker = InMemory(tmp_path)
    tracker.add(tmp_path / "run")
    tracker.stop()
    assert tracker.logs == []
    assert capsys.readouterr().err == ""


WORDS = ("run", "protocol=single", "strategy.epochs=1", "scenario.increment=5", "executor=in_process")


def bits(folder: Path) -> dict[str, object]:
    """All of the records but when and how fast they were computed, by their run."""
    return {
        found.run: (replace(found, costs=(), started=""), [(c.stored_bytes, c.parameters) for c in found.costs])
        for found in record.find([folder])
    }


@pytest.mark.parametrize("name", [name for name in trackers.names() if name != "none"])
def test_a_tracked_run_has_the_identity_and_the_bits_of_one_that_is_not(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    skip_without_package(name)
    for tracker in ("none", name):
        (tmp_path / tracker).mkdir()
        monkeypatch.chdir(tmp_path / tracker)
        assert run([*WORDS, f"tracker={tracker}"]) == 0
    assert (tmp_path / name / "runs" / name / "logged").is_dir()
    assert bits(tmp_path / name) == bits(tmp_path / "none")


def test_no_tracker_leaves_nothing_beside_the_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run([*WORDS]) == 0
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["digits"]


def test_a_tracker_that_breaks_in_the_middle_of_a_study_loses_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    skip_without_package("tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    def full(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(SummaryWriter, "add_scalar", full)
    assert run([*WORDS, "protocol.seeds=[0,1]", "tracker=tensorboard"]) == 0
    assert [found.status for found in record.find([tmp_path / "runs"])] == [Status.FINISHED] * 2
    shown = capsys.readouterr()
    assert (shown.out + shown.err).count("tracker tensorboard failed (OSError: disk full)") == 1
