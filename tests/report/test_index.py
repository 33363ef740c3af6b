"""Runs that were found through the index are those on disk, whatever happens to either."""

from __future__ import annotations

import dataclasses
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from clbench import record
from clbench.cli.main import run
from clbench.errors import DataError
from clbench.record import Phase, Record, Status
from clbench.report import index
from clbench.report.tables import FORMATS, report
from clbench.report.view import View
from tests.conftest import MakeRecord

STUDY = Path(__file__).parent.parent.parent / "results" / "measured" / "digits" / "runs"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "index"


def write(folder: Path, found: Record) -> Path:
    record.write(folder / found.run, found)
    return folder / found.run / "record.json"


def ids(*folders: Path) -> list[str]:
    return [entry.record.run for entry in index.read(folders).entries]


@pytest.mark.parametrize("format_", FORMATS)
def test_reports_are_the_same_as_from_the_records_themselves(format_: str) -> None:
    direct = report(list(record.find([STUDY])), format_)
    assert report(index.read([STUDY]), format_) == direct
    assert report(index.read([STUDY]), format_) == direct, "read again, from the index"


def test_only_what_is_new_or_changed_is_read_again(tmp_path: Path, make_record: MakeRecord) -> None:
    for seed in range(3):
        write(tmp_path / "runs", make_record(run=f"r{seed}", seed=seed))
    told: list[tuple[int, int]] = []
    index.read([tmp_path / "runs"], lambda done, total: told.append((done, total)))
    index.read([tmp_path / "runs"], lambda done, total: told.append((done, total)))
    assert told == [(3, 3)]
    write(tmp_path / "runs", make_record([[10], [20, 30], [40, 50, 60]], run="r1", seed=1))
    shutil.rmtree(tmp_path / "runs" / "r0")
    found = index.read([tmp_path / "runs"], lambda done, total: told.append((done, total)))
    assert told == [(3, 3), (1, 1)]
    assert {entry.record.run: entry.values["last_accuracy"] for entry in found.entries} == {"r1": 50, "r2": 70}


def test_an_entry_knows_all_that_its_record_says(tmp_path: Path, make_record: MakeRecord) -> None:
    made = make_record(run="r")
    write(tmp_path, made)
    (entry,) = index.read([tmp_path]).entries
    assert entry.whole() == made
    assert entry.experiences == 3
    assert entry.record == dataclasses.replace(made, experiences=(), measurements=(), costs=())


def test_copies_are_one_run_and_the_finished_one_is_taken(tmp_path: Path, make_record: MakeRecord) -> None:
    write(tmp_path / "a", make_record([[90]], totals=[100] * 3, run="r", status=Status.RUNNING))
    write(tmp_path / "b", make_record(run="r"))
    write(tmp_path / "c", make_record(run="r"))
    found = index.read([tmp_path])
    assert [entry.path for entry in found.entries] == [tmp_path / "b" / "r" / "record.json"]
    assert (found.unfinished, found.faults) == (0, ())


def test_other_counts_under_one_name_are_told(tmp_path: Path, make_record: MakeRecord) -> None:
    write(tmp_path / "a", make_record(run="r"))
    write(tmp_path / "b", make_record([[1], [2, 3], [4, 5, 6]], run="r"))
    found = index.read([tmp_path])
    assert [entry.values["last_accuracy"] for entry in found.entries] == [70]
    assert len(found.faults) == 1
    assert all(str(tmp_path / name) in found.faults[0] for name in "ab")
    assert "other counts" in report(found, "markdown")


def test_a_broken_record_is_told_and_stops_no_report(
    tmp_path: Path, make_record: MakeRecord, capsys: pytest.CaptureFixture[str]
) -> None:
    cut, newer = (write(tmp_path, make_record(run=name, seed=9)) for name in ("cut", "newer"))
    write(tmp_path, make_record(run="whole"))
    cut.write_text(cut.read_text()[:300])
    newer.write_text(json.dumps({**json.loads(newer.read_text()), "schema": 99}))
    assert ids(tmp_path) == ["whole"]
    for format_ in ("table", "markdown", "latex"):
        assert run(["report", str(tmp_path), "--format", format_]) == 0
        shown = capsys.readouterr().out
        assert "70.0" in shown
        assert "cut/record.json: not a clbench record" in shown.replace("\\", "")
        assert "Upgrade clbench" in shown
    assert run(["report", str(tmp_path), "--format", "csv"]) == 0
    assert "record of schema 99" in capsys.readouterr().err, "a table of numbers has no place for it"


def test_with_broken_records_only_the_line_says_why(
    tmp_path: Path, make_record: MakeRecord, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, make_record(run="cut"))
    path.write_text("{")
    assert run(["report", str(tmp_path)]) == 2
    shown = capsys.readouterr().err
    assert "no finished evaluation runs in" in shown
    assert f"{path}: not a clbench record" in shown


def test_tuning_runs_are_counted_nowhere(tmp_path: Path, make_record: MakeRecord) -> None:
    write(tmp_path, make_record(run="t", phase=Phase.TUNING))
    write(tmp_path, make_record(run="u", phase=Phase.TUNING, status=Status.RUNNING))
    write(tmp_path, make_record(run="e"))
    found = index.read([tmp_path])
    assert ([entry.record.run for entry in found.entries], found.unfinished) == (["e"], 0)


def test_a_folder_s_neighbour_of_a_longer_name_is_another(tmp_path: Path, make_record: MakeRecord) -> None:
    write(tmp_path / "runs", make_record(run="r"))
    write(tmp_path / "runs2", make_record(run="s"))
    write(tmp_path / "runs 3", make_record(run="t"))
    assert ids(tmp_path) == ["t", "r", "s"]
    assert ids(tmp_path / "runs") == ["r"]
    assert ids(tmp_path / "runs", tmp_path / "runs2", tmp_path / "runs") == ["r", "s"]


@pytest.mark.parametrize("harm", ["not SQLite", "no folder"])
def test_without_a_usable_index_the_records_are_read(
    harm: str, tmp_path: Path, cache: Path, make_record: MakeRecord
) -> None:
    write(tmp_path / "runs", make_record(run="r"))
    assert ids(tmp_path / "runs") == ["r"]
    if harm == "not SQLite":
        next(cache.glob("*.sqlite")).write_bytes(b"something else" * 999)
    else:
        shutil.rmtree(cache)
        cache.write_text("a file where the folder would be")
    assert ids(tmp_path / "runs") == ["r"]


def test_many_may_read_at_once(tmp_path: Path, make_record: MakeRecord) -> None:
    for seed in range(40):
        write(tmp_path / "runs", make_record(run=f"r{seed:02}", seed=seed))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: ids(tmp_path / "runs"), range(8)))
    assert found == [[f"r{seed:02}" for seed in range(40)]] * 8


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no folder .*nowhere"):
        index.read([tmp_path / "nowhere"])


def test_a_score_that_is_no_number_is_a_marked_cell(tmp_path: Path, make_record: MakeRecord) -> None:
    """A record that somebody's code wrote NaN into: the mean is over the rest, and says so."""
    good, bad = make_record(run="good"), make_record(run="bad", seed=1)
    broken = dataclasses.replace(bad.measurements[-1], correct=float("nan"))
    write(tmp_path, good)
    write(tmp_path, dataclasses.replace(bad, measurements=(*bad.measurements[:-1], broken)))
    shown = report(index.read([tmp_path]), "markdown", View(columns=("last_accuracy", "learning_accuracy")))
    assert "| naive | 70.0\\* | 86.7\\* |" in shown
    assert "mean over the runs where it is defined, fewer than n" in shown
    alone = report(index.read([tmp_path / "bad"]), "markdown", View(columns=("last_accuracy",)))
    assert "| naive | \N{EN DASH} |" in alone
