"""Studies of named arms."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from clbench import record
from clbench.arms import Arranged, by_arm, carry_out
from clbench.errors import UnknownNameError

ARMS = {
    "plain": ["strategy=naive", "strategy.epochs=1"],
    "slow": ["strategy=naive", "strategy.epochs=1", "strategy.lr=0.001"],
}
SHARED = ["scenario=digits", "protocol=single", "protocol.seeds=[1,0]", "device=cpu"]


def test_arms_are_carried_out_once_and_their_runs_are_found_again(tmp_path: Path) -> None:
    told: list[str] = []
    made = carry_out(ARMS, SHARED, tmp_path, 1, told.append)
    assert told == list(made) == list(ARMS)
    assert {name: {run.strategy_config["lr"] for run in runs} for name, runs in made.items()}["slow"] == {0.001}
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("record.json")}
    again = carry_out(ARMS, SHARED, tmp_path, 1)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("record.json")} == written
    assert {n: {run.run for run in runs} for n, runs in again.items()} == {n: {r.run for r in made[n]} for n in made}
    found = by_arm(list(record.find([tmp_path])), ARMS, SHARED)
    assert {name: [run.seed for run in runs] for name, runs in found.items()} == {"plain": [0, 1], "slow": [0, 1]}
    assert list(by_arm(list(made["slow"]), ARMS, SHARED)) == ["slow"]


def test_a_study_s_command_line_makes_all_runs_or_a_few_and_writes_what_they_say(tmp_path: Path) -> None:
    def text(found: Mapping[str, tuple[record.Record, ...]]) -> str:
        return "".join(f"{name}: {[run.seed for run in runs]}\n" for name, runs in found.items())

    study = Arranged(ARMS, SHARED, ["slow"], [2], text)
    study.main("A study.", tmp_path, ["--quick", "--workers", "1"])
    assert (tmp_path / "findings.md").read_text() == "slow: [2]\n"
    study.main("A study.", tmp_path, ["--output", str(tmp_path / "all" / "runs"), "--workers", "1"])
    assert (tmp_path / "all" / "findings.md").read_text() == "plain: [1, 0]\nslow: [1, 0]\n"
    assert len(list(tmp_path.rglob("record.json"))) == 5


def test_an_arm_that_cannot_be_put_together_stops_all_before_the_first_run(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="unknown strategy 'nave'"):
        carry_out({**ARMS, "wrong": ["strategy=nave"]}, SHARED, tmp_path, 1)
    assert not list(tmp_path.rglob("record.json"))
