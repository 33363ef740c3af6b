"""A table says what its runs do not have in common."""

from __future__ import annotations

from dataclasses import replace

from clbench.record import Selection
from clbench.report.tables import report
from tests.conftest import ENVIRONMENT, MakeRecord

TUNED = Selection("two_phase, random", "last_accuracy", 4, (100, 101), 50.0, tuple("abcdefgh"), "t")


def test_runs_made_alike_need_no_word(make_record: MakeRecord) -> None:
    runs = [make_record(strategy=name, seed=seed) for name in "ab" for seed in range(2)]
    assert "Not the same" not in report(runs, "markdown")


def test_other_budgets_criteria_and_commits_are_named(make_record: MakeRecord) -> None:
    longer = replace(TUNED, trials=40, criterion="bwt_gem", tuning_runs=tuple(map(str, range(80))))
    runs = [
        make_record(strategy="a", selection=TUNED, protocol="two_phase"),
        make_record(strategy="b", selection=longer, protocol="two_phase"),
        make_record(strategy="c", protocol="two_phase", environment=replace(ENVIRONMENT, commit="fff9999")),
    ]
    text = report(runs, "markdown").replace("\\", "")
    assert "Not the same in all runs: how hyper-parameters were chosen (given / two_phase, random)" in text
    assert "8 tuning runs (4 trials x 2 seeds) / 80 tuning runs (40 trials x 2 seeds) / hyper-parameters given" in text
    assert "tuning criterion (bwt_gem / last_accuracy / none)" in text
    assert "commit (abc1234 / fff9999)" in text


def test_many_values_are_counted(make_record: MakeRecord) -> None:
    runs = [make_record(seed=s, environment=replace(ENVIRONMENT, commit=f"c{s}")) for s in range(5)]
    assert "commit (5 of them)" in report(runs, "markdown")


def test_seeds_that_learnt_other_data_are_named(make_record: MakeRecord) -> None:
    runs = [make_record(strategy=name, seed=seed) for name in "ab" for seed in range(3)]
    assert "data (of seed 1)" in report([*runs, make_record(strategy="c", seed=1, data_digest="x")], "markdown")


def test_what_is_missing_or_of_one_seed_is_explained(make_record: MakeRecord) -> None:
    text = report([make_record([[90]])], "markdown")
    assert "\N{EN DASH} undefined, or not measured." in text
    assert "One seed has no interval" in text


def test_different_protocols_are_different_tables(make_record: MakeRecord) -> None:
    text = report([make_record(), make_record(strategy="b", protocol="two_phase")], "markdown")
    assert text.count("### ") == 2
