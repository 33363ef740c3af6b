"""Metrics of texts, edits and probes; `test_metrics` has those of every stream."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from clbench.metrics import (
    accuracy_matrix,
    average_incremental_accuracy,
    bwt_trace,
    change_from_start,
    editing_score,
    initial_accuracy_macro,
    last_accuracy_macro,
    learning_accuracy,
    mean_average_accuracy,
    perplexity_ratio,
    probe_accuracy,
    probe_change,
    probe_forgetting,
    probe_scores,
    reliability,
    seen_accuracy,
)
from clbench.record import ProbeMeasurement, Record, Setting, Status

Make = Callable[..., Record]
TEXTS = Setting.INSTRUCTION


def test_texts_by_hand(make_record: Make) -> None:
    record = make_record([[80, 20], [60, 100]], before=[40, 10], setting=TEXTS)
    assert mean_average_accuracy(record) == (80 + (60 + 100) / 2) / 2
    assert initial_accuracy_macro(record) == 25
    assert change_from_start(record) == 80 - 25
    assert bwt_trace(record) == -10


def probed(make_record: Make, **scores: Sequence[float]) -> Record:
    """A record with probes of ten questions, or ten tokens where the name says so, before and after two experiences."""
    entries = tuple(
        ProbeMeasurement(after, name, "log_likelihood" if name.startswith("text") else "accuracy", total, 10)
        for name, totals in scores.items()
        for after, total in enumerate(totals)
    )
    return make_record([[90, 10], [60, 80]], before=[0, 0], setting=TEXTS, probes=entries)


def test_probes_by_hand(make_record: Make) -> None:
    record = probed(make_record, facts=(8, 9, 4), skills=(6, 5, 7.5), text=(-10 * math.log(2), -1, -10 * math.log(6)))
    assert probe_scores(record, "facts").tolist() == [80, 90, 40]
    assert probe_scores(record, "text").tolist() == pytest.approx([2, math.exp(0.1), 6])
    assert probe_accuracy(record) == pytest.approx((40 + 75) / 2)
    assert probe_change(record) == pytest.approx((-40 + 15) / 2)
    assert probe_forgetting(record) == pytest.approx((50 - 15) / 2)
    assert perplexity_ratio(record) == pytest.approx(3)


def test_the_ratio_of_perplexities_is_their_geometric_mean(make_record: Make) -> None:
    record = probed(make_record, text=(0, 0, -10 * math.log(2)), text2=(0, 0, -10 * math.log(8)))
    assert perplexity_ratio(record) == pytest.approx(4)


def test_a_perplexity_beyond_all_numbers_is_a_large_one(make_record: Make) -> None:
    record = probed(make_record, text=(-1, -1, -1e9))
    assert 1e300 < probe_scores(record, "text")[-1] < math.inf
    assert 1e300 < perplexity_ratio(record) < math.inf


def test_without_probes_there_is_nothing_to_lose(make_record: Make) -> None:
    record = make_record()
    assert np.isnan(probe_scores(record, "facts")).all()
    for metric in (probe_accuracy, probe_change, probe_forgetting, perplexity_ratio):
        assert math.isnan(metric(record))


def test_a_diverged_run_on_texts_counts_as_nothing_right(make_record: Make) -> None:
    entries = tuple(ProbeMeasurement(t, "facts", "accuracy", 9, 10) for t in range(2))
    entries += tuple(ProbeMeasurement(t, "text", "log_likelihood", -9, 10) for t in range(2))
    record = make_record(
        [[90, 70, 50]],
        totals=[100] * 3,
        before=[40, 50, 60],
        setting=TEXTS,
        status=Status.DIVERGED,
        probes=entries,
    )
    np.testing.assert_array_equal(accuracy_matrix(record), [[90, 70, 50], [0, 0, np.nan], [0, 0, 0]])
    assert last_accuracy_macro(record) == 0
    assert mean_average_accuracy(record) == 30
    assert change_from_start(record) == -50
    assert probe_scores(record, "facts").tolist() == [90, 90, 0, 0]
    assert probe_change(record) == -90
    assert math.isnan(perplexity_ratio(record))  # no perplexity is the worst


def edited(make_record: Make, correct: int = 97, **probes: tuple[str, int]) -> Record:
    """Edits in two experiences, with probes of a hundred questions each by unit and right answers at the end."""
    entries = tuple(
        ProbeMeasurement(after, name, unit, score if after else 100, 100)
        for name, (unit, score) in probes.items()
        for after in (0, 2)
    )
    return make_record([[], [100, correct]], totals=[100, 100], setting=Setting.EDITING, probes=entries)


def test_reliability_is_over_all_edits_so_far(make_record: Make) -> None:
    record = make_record([[10], [3, 60]], totals=[10, 90], setting=Setting.EDITING)
    assert reliability(record) == 63
    assert math.isnan(reliability(make_record([[10], [3, 60]], totals=[10, 90], setting=TEXTS)))
    gone = make_record([[10]], totals=[10, 90], setting=Setting.EDITING, status=Status.DIVERGED)
    assert reliability(gone) == 0
    assert editing_score(gone) == -100


def test_the_editing_score_asks_for_reliability_then_capability_then_generalisation(make_record: Make) -> None:
    def score(correct: int = 97, capability: int = 80, generalisation: int = 40, **more: tuple[str, int]) -> float:
        able: dict[str, Any] = {"capability": ("accuracy", capability), "locality_near": ("accuracy", 10)}
        return editing_score(edited(make_record, correct, generalisation=("gain", generalisation), **able, **more))

    assert score() == pytest.approx(80.04)
    assert score(old_answer=("residue", 50), teacher_forced=("gain", 1)) == pytest.approx(80.04)
    assert score(facts=("accuracy", 60)) == pytest.approx(70.04)
    assert score(correct=90) == pytest.approx(80.04)  # 190 of 200 are 95 %
    assert score(correct=89) == pytest.approx(94.5 - 100)
    order = [score(0), score(89, 100, 100), score(90, 0, 0), score(100, 79, 100), score(90, 80, 0), score(90, 80, 1)]
    assert order == sorted(set(order))


def test_the_editing_score_takes_locality_where_no_ability_is_probed_and_leaves_out_what_is_not_measured(
    make_record: Make,
) -> None:
    near: dict[str, Any] = {"locality_near": ("accuracy", 30), "locality_far": ("accuracy", 50)}
    assert editing_score(edited(make_record, **near)) == pytest.approx(40)
    assert editing_score(edited(make_record, generalisation=("gain", 70))) == pytest.approx(0.07)
    assert editing_score(edited(make_record)) == 0


@pytest.mark.parametrize("noted", [True, False])
def test_the_average_is_over_the_moments_at_which_a_stream_is_measured(make_record: Make, noted: bool) -> None:
    rows = [[], [90, 70], [], [50, 30, 40, 80]]
    notes = {"stream": {"moments": [2, 4]}} if noted else {}
    record = make_record(rows, totals=[100] * 4, setting=Setting.EDITING, notes=notes)
    assert average_incremental_accuracy(record) == (80 + 50) / 2
    assert math.isnan(learning_accuracy(record))


def test_a_diverged_stream_is_at_nothing_at_the_moments_that_are_left(make_record: Make) -> None:
    fields: dict[str, Any] = {"totals": [100] * 6, "setting": Setting.EDITING, "status": Status.DIVERGED}
    record = make_record([[], [90, 70], []], notes={"stream": {"moments": [2, 4, 6]}}, **fields)
    assert average_incremental_accuracy(record) == pytest.approx(80 / 3)


def test_a_moment_at_which_nothing_could_be_asked_yet_is_none(make_record: Make) -> None:
    record = make_record([[0], [0, 60]], totals=[0, 100], setting=Setting.EDITING)
    assert average_incremental_accuracy(record) == reliability(record) == 60
    assert math.isnan(seen_accuracy(record)[0])


def test_probes_of_what_is_to_come_or_to_go_are_no_abilities(make_record: Make) -> None:
    record = edited(make_record, capability=("accuracy", 70), generalisation=("gain", 5), old_answer=("residue", 9))
    assert probe_accuracy(record) == 70
    assert probe_change(record) == -30
    assert probe_scores(record, "old_answer")[-1] == 9
    gone = replace(record, status=Status.DIVERGED, probes=tuple(p for p in record.probes if not p.after))
    assert probe_scores(gone, "generalisation")[-1] == 0
    assert math.isnan(probe_scores(gone, "old_answer")[-1])  # that nothing old is left would be praise
