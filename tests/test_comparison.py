"""Measured against published: which runs answer a row, how far they may differ, what is said where none do."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from clbench.comparison import Comparison, Verdict, compare, tolerance
from clbench.metrics import interval
from clbench.record import Part, Phase, Record, Status
from clbench.reported import Reported
from tests.conftest import MakeRecord

OURS = [70.0, 72.0, 71.0, 74.0]


def published(value: float = 70.0, **cells: Any) -> Reported:
    """A row that the records of `make_record` answer."""
    usual: dict[str, Any] = {
        "paper": "2404.18466",
        "table": "1",
        "scenario": "digits increment=2",
        "strategy": "naive",
        "model": "small_cnn",
        "protocol": "single part=whole",
        "metric": "last_accuracy",
        "rounding": 0.0,
        "spread": None,
        "n": None,
        "source": "table 1",
        "read_how": "read in the paper",
        "note": "",
        "path": Path("paper.csv"),
        "line": 2,
    }
    return Reported(**usual | {"value": value} | cells)


def runs(make_record: MakeRecord, lasts: list[int], **fields: Any) -> list[Record]:
    """One run per seed of two experiences, whose last accuracies are the given ones, in percent."""
    return [make_record([[90], [last, last]], seed=seed, **fields) for seed, last in enumerate(lasts)]


def only(found: tuple[Comparison, ...]) -> Comparison:
    (comparison,) = found
    return comparison


def test_with_both_spreads_the_verdict_is_welch_s_test() -> None:
    ours = interval(OURS)
    for value in np.linspace(60, 85, 101):
        row = published(float(value), spread=1.5, n=3)
        p = stats.ttest_ind_from_stats(ours.mean, ours.std, ours.n, value, 1.5, 3, equal_var=False).pvalue
        assert (abs(ours.mean - value) <= tolerance(ours, row)) == (p >= 0.05)


def test_against_one_draw_the_verdict_is_the_test_of_one_more_draw() -> None:
    """Student's test of n draws against one, whose spread is that of the n."""
    ours = interval(OURS)
    for value in np.linspace(60, 85, 101):
        p = stats.ttest_ind(OURS, [value]).pvalue
        assert (abs(ours.mean - value) <= tolerance(ours, published(float(value)))) == (p >= 0.05)


def test_one_run_of_ours_is_held_against_their_spread() -> None:
    theirs = [70.0, 71.0, 69.5]
    row = published(float(np.mean(theirs)), spread=float(np.std(theirs, ddof=1)), n=3)
    for value in np.linspace(60, 80, 101):
        p = stats.ttest_ind(theirs, [value]).pvalue
        assert (abs(value - row.value) <= tolerance(interval([float(value)]), row)) == (p >= 0.05)


def test_a_mean_of_three_without_spread_is_three_draws() -> None:
    ours = interval(OURS)
    draws = tolerance(ours, published(n=3))
    assert draws == pytest.approx(stats.t.ppf(0.975, 3) * ours.std * math.sqrt(1 / 4 + 1 / 3))
    assert draws < tolerance(ours, published(n=1)) == tolerance(ours, published(n=None))


def test_the_rounding_of_what_is_printed_is_allowed() -> None:
    """A method without chance, whose seeds agree, still differs from its rounded self."""
    same = interval([32.48, 32.48, 32.48])
    assert tolerance(same, published(32.5, rounding=0.05)) == pytest.approx(0.05)
    assert tolerance(same, published(32.5, rounding=0.05, spread=0.0, n=3)) == pytest.approx(0.05)


def test_one_number_against_one_number_has_no_tolerance() -> None:
    assert math.isnan(tolerance(interval([70.0]), published()))
    assert math.isnan(tolerance(interval([70.0]), published(n=5)))
    assert math.isnan(tolerance(interval([70.0]), published(spread=0.5, n=None)))


def test_a_spread_of_unknown_n_counts_as_one_draw() -> None:
    assert tolerance(interval(OURS), published(spread=0.5)) == tolerance(interval(OURS), published())


@pytest.mark.parametrize(("value", "verdict"), [(71.0, Verdict.WITHIN), (60.0, Verdict.OUTSIDE)])
def test_runs_are_set_beside_the_row_that_they_answer(make_record: MakeRecord, value: float, verdict: Verdict) -> None:
    found = only(compare([published(value)], runs(make_record, [70, 72, 71, 73])))
    assert found.verdict is verdict
    assert found.measured is not None
    assert (found.measured.mean, found.measured.n) == (71.5, 4)
    assert found.difference == pytest.approx(71.5 - value)


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({"metric": "capability"}, "clbench does not compute that metric"),
        ({"scenario": "cifar224 increment=5"}, "no run of scenario cifar224 (there: digits); it needs that data"),
        (
            {"scenario": "folder path=cub base=0"},
            "no run of scenario folder path=cub (there: digits); it needs that data",
        ),
        ({"scenario": "digits increment=5"}, "runs of scenario digits have increment=2, not increment=5"),
        ({"scenario": "digits tasks=null"}, "runs of scenario digits have no tasks, not tasks=null"),
        ({"model": "resnet32"}, "no run of model resnet32 (there: small_cnn)"),
        ({"protocol": "single part=evaluation_half"}, 'runs of protocol single have part="whole"'),
        ({"protocol": "two_phase"}, "no run of protocol two_phase (there: single)"),
        ({"strategy": "hft"}, "no run of strategy hft (there: naive)"),
        ({"strategy": "naive lr=0.5"}, "runs of strategy naive have lr=0.1, not lr=0.5"),
        ({"metric": "reliability"}, "reliability is not defined for these runs"),
        ({"metric": "probe.generalisation"}, "probe.generalisation is not defined for these runs"),
        ({"metric": "seen_accuracy_after_3"}, "seen_accuracy_after_3 is not defined for these runs"),
    ],
)
def test_what_is_missing_is_said(make_record: MakeRecord, cells: dict[str, Any], reason: str) -> None:
    found = only(compare([published(**cells)], runs(make_record, [70, 72])))
    assert found.verdict is Verdict.MISSING
    assert found.reason.startswith(reason)
    assert found.measured is None


def test_fields_are_compared_by_their_values(make_record: MakeRecord) -> None:
    config = {"lr": 0.5, "memory": {"capacity": 200}, "merge": "reference", "clip": None, "align": True}
    cell = "mos lr=0.50 memory.capacity=200 merge=reference clip=null align=true"
    records = runs(make_record, [70, 72], strategy="mos", strategy_config=config)
    assert only(compare([published(strategy=cell)], records)).measured is not None


def test_a_folder_is_compared_by_its_last_part(make_record: MakeRecord) -> None:
    records = runs(make_record, [70, 72], scenario="folder", scenario_config={"path": "/data/images/cub"})
    cub, others = compare([published(scenario="folder path=cub"), published(scenario="folder path=images")], records)
    assert cub.measured is not None
    assert others.measured is None


def test_a_point_of_a_curve_is_compared(make_record: MakeRecord) -> None:
    records = runs(make_record, [70, 72])
    first, second = compare([published(metric=f"seen_accuracy_after_{k}") for k in (1, 2)], records)
    assert first.measured is not None
    assert second.measured is not None
    assert (first.measured.mean, second.measured.mean) == (90, 71)


def test_half_the_classes_do_not_answer_for_all(make_record: MakeRecord) -> None:
    found = only(compare([published()], runs(make_record, [70, 72], part=Part.EVALUATION_HALF)))
    assert found.reason == 'runs of protocol single have part="evaluation_half", not part="whole"'


def test_tuning_runs_and_unfinished_runs_answer_nothing(make_record: MakeRecord) -> None:
    records = [*runs(make_record, [70, 72], phase=Phase.TUNING), *runs(make_record, [70], status=Status.RUNNING)]
    found = only(compare([published()], records))
    assert found.reason == "no run of scenario digits (there: none); it needs that data"


def test_two_groups_that_answer_decide_nothing(make_record: MakeRecord) -> None:
    records = runs(make_record, [70, 72]) + runs(make_record, [80, 82], strategy_config={"lr": 0.2})
    found = only(compare([published()], records))
    assert found.verdict is Verdict.UNDECIDED
    assert found.reason.startswith("2 groups of runs answer it (naive (lr=0.1), naive (lr=0.2)); name more fields")
    assert only(compare([published(70, strategy="naive lr=0.1")], records)).verdict is Verdict.WITHIN


def test_one_run_against_one_number_is_undecided(make_record: MakeRecord) -> None:
    found = only(compare([published(71)], runs(make_record, [70])))
    assert found.verdict is Verdict.UNDECIDED
    assert found.difference == -1
    assert found.reason == "one run against one number; run more seeds (protocol.seeds)"
