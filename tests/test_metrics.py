import math
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest

from clbench.metrics import (
    INTRANSIGENCE,
    METRICS,
    accuracy_matrix,
    average_incremental_accuracy,
    bwt_gem,
    bwt_pairs,
    bwt_trace,
    change_from_start,
    forgetting_max_all,
    forgetting_max_prev,
    fwt_gem,
    initial_accuracies,
    interval,
    intransigence,
    last_accuracy,
    last_accuracy_macro,
    learning_accuracy,
    seen_accuracy,
)
from clbench.record import ProbeMeasurement, Record, Setting, Status

Make = Callable[..., Record]
SIZES = pytest.mark.parametrize(("size", "seed"), [(2, 0), (3, 1), (5, 2), (10, 3)])
TASKS = Setting.TASK_INCREMENTAL


def random_record(make_record: Make, size: int, seed: int, setting: Setting = Setting.CLASS_INCREMENTAL) -> Record:
    """Random counts on test sets of unequal sizes."""
    generator = np.random.default_rng(seed)
    totals = [int(n) for n in generator.integers(5, 200, size)]
    ahead = setting is not Setting.CLASS_INCREMENTAL
    width = [size if ahead else t + 1 for t in range(size)]
    matrix = [[int(generator.integers(0, n + 1)) for n in totals[:w]] for w in width]
    before = [int(generator.integers(0, n + 1)) for n in totals] if ahead else []
    probes = tuple(
        ProbeMeasurement(t, f"{unit} {k}", unit, sign * float(generator.uniform(1, 20 + k)), 20 + k)
        for t in range(size + 1)
        for unit, sign in (("accuracy", 1), ("log_likelihood", -1))
        for k in range(2)
        if setting is Setting.INSTRUCTION
    )
    return make_record(matrix, totals=totals, before=before, setting=setting, probes=probes)


def naive_matrix(record: Record) -> list[list[float]]:
    table = {(m.after, m.experience): 100 * m.correct / m.total for m in record.measurements}
    size = len(record.experiences)
    return [[table.get((t + 1, j), math.nan) for j in range(size)] for t in range(size)]


@SIZES
@pytest.mark.parametrize("setting", Setting)
def test_every_metric_equals_its_formula_written_as_loops(
    make_record: Make, size: int, seed: int, setting: Setting
) -> None:
    record = random_record(make_record, size, seed, setting)
    r, last, earlier = naive_matrix(record), size - 1, range(size - 1)
    counts = {(m.after, m.experience): m for m in record.measurements}
    curve = [
        100 * sum(counts[t + 1, j].correct for j in range(t + 1)) / sum(counts[t + 1, j].total for j in range(t + 1))
        for t in range(size)
    ]
    pairs = [r[t][j] - r[j][j] for t in range(size) for j in range(t)]
    first = [100 * counts[0, j].correct / counts[0, j].total if (0, j) in counts else math.nan for j in range(size)]
    told = {(p.probe, p.after): p.total / p.count for p in record.probes}
    able, read = ([f"{unit} {k}" for k in range(2) if record.probes] for unit in ("accuracy", "log_likelihood"))

    def mean(values: Iterable[float]) -> float:
        found = list(values)
        return sum(found) / len(found) if found else math.nan

    expected = {
        "average_incremental_accuracy": sum(curve) / size,
        "last_accuracy": curve[-1],
        "last_accuracy_macro": sum(r[last]) / size,
        "forgetting_max_prev": sum(max(r[i][j] for i in range(j, last)) - r[last][j] for j in earlier) / (size - 1),
        "forgetting_max_all": sum(max(r[i][j] for i in range(j, size)) - r[last][j] for j in earlier) / (size - 1),
        "bwt_gem": sum(r[last][j] - r[j][j] for j in earlier) / (size - 1),
        "bwt_pairs": sum(pairs) / len(pairs),
        "bwt_trace": sum(r[last][j] - r[j][j] for j in range(size)) / size,
        "fwt_gem": sum(r[j - 1][j] - first[j] for j in range(1, size)) / (size - 1),
        "learning_accuracy": sum(r[j][j] for j in range(size)) / size,
        "mean_average_accuracy": sum(sum(r[t][j] for j in range(t + 1)) / (t + 1) for t in range(size)) / size,
        "change_from_start": sum(r[last][j] - first[j] for j in range(size)) / size,
        "reliability": curve[-1] if setting is Setting.EDITING else math.nan,
        "editing_score": curve[-1] - 100 if setting is Setting.EDITING else math.nan,  # far from all edits hold
        "probe_accuracy": mean(100 * told[name, size] for name in able),
        "probe_change": mean(100 * (told[name, size] - told[name, 0]) for name in able),
        "probe_forgetting": mean(100 * (max(told[name, t] for t in range(size)) - told[name, size]) for name in able),
        "perplexity_ratio": math.prod(math.exp(told[name, 0] - told[name, size]) for name in read) ** 0.5
        if read
        else math.nan,
    }
    got = {name: metric.function(record) for name, metric in METRICS.items()}
    assert got == pytest.approx(expected, rel=1e-12, abs=1e-9, nan_ok=True)
    np.testing.assert_allclose(accuracy_matrix(record), r)
    np.testing.assert_allclose(seen_accuracy(record), curve)
    np.testing.assert_allclose(initial_accuracies(record), first)


@SIZES
def test_what_the_definitions_promise(make_record: Make, size: int, seed: int) -> None:
    record = random_record(make_record, size, seed)
    matrix = accuracy_matrix(record)
    assert forgetting_max_all(record) >= 0
    assert forgetting_max_all(record) >= forgetting_max_prev(record)
    assert bwt_gem(record) == pytest.approx(-np.mean(np.diagonal(matrix)[:-1] - matrix[-1, :-1]))
    assert bwt_trace(record) == pytest.approx(bwt_gem(record) * (size - 1) / size)


def test_forgetting_may_be_negative_only_without_the_last_row(make_record: Make) -> None:
    record = make_record([[50], [70, 90]])
    assert forgetting_max_prev(record) == -20
    assert forgetting_max_all(record) == 0


def test_a_small_example_by_hand(make_record: Make) -> None:
    record = make_record([[90], [60, 80], [50, 70, 90]])
    assert seen_accuracy(record).tolist() == [90, 70, 70]
    assert average_incremental_accuracy(record) == pytest.approx(230 / 3)
    assert last_accuracy(record) == last_accuracy_macro(record) == 70
    assert forgetting_max_prev(record) == 25
    assert bwt_pairs(record) == pytest.approx(-80 / 3)


def test_micro_and_macro_differ_where_test_sets_do(make_record: Make) -> None:
    record = make_record([[10], [10, 0]], totals=[10, 90])
    assert last_accuracy(record) == 10
    assert last_accuracy_macro(record) == 50


@pytest.mark.parametrize("setting", Setting)
def test_one_experience_leaves_differences_undefined(make_record: Make, setting: Setting) -> None:
    record = make_record([[40]], before=[25], setting=setting)
    defined = {name for name, metric in METRICS.items() if not math.isnan(metric.function(record))}
    levels = {"average_incremental_accuracy", "last_accuracy", "last_accuracy_macro", "learning_accuracy"}
    editing = {"reliability", "editing_score"} if setting is Setting.EDITING else set()
    assert defined == levels | editing | {"mean_average_accuracy", "change_from_start"}
    assert change_from_start(record) == 15


def test_a_run_that_goes_on_has_no_figures(make_record: Make) -> None:
    record = make_record([[90], [60, 80]], totals=[100] * 3, status=Status.RUNNING)
    assert all(math.isnan(metric.function(record)) for metric in METRICS.values())
    assert np.isnan(accuracy_matrix(record)[2]).all()


def test_forward_transfer_is_undefined_where_unseen_classes_have_no_outputs(make_record: Make) -> None:
    assert math.isnan(fwt_gem(make_record()))


def test_a_diverged_run_counts_as_chance_over_the_classes_seen(make_record: Make) -> None:
    record = make_record([[90]], totals=[100] * 3, classes=[2, 2, 4], status=Status.DIVERGED)
    expected = [[90, math.nan, math.nan], [25, 25, math.nan], [12.5, 12.5, 12.5]]
    np.testing.assert_array_equal(accuracy_matrix(record), expected)
    np.testing.assert_array_equal(seen_accuracy(record), [90, 25, 12.5])


def test_a_diverged_run_counts_as_chance_within_the_experience_where_it_is_told(make_record: Make) -> None:
    record = make_record(
        [[90, 40]], totals=[30, 10], classes=[2, 5], before=[9, 2], setting=TASKS, status=Status.DIVERGED
    )
    np.testing.assert_array_equal(accuracy_matrix(record)[1], [50, 20])
    assert seen_accuracy(record)[1] == pytest.approx(100 * (15 + 2) / 40)


def test_a_run_that_diverged_at_once_is_at_chance_throughout(make_record: Make) -> None:
    record = make_record([], classes=[2, 3], status=Status.DIVERGED)
    assert average_incremental_accuracy(record) == pytest.approx((50 + 20) / 2)
    assert learning_accuracy(record) == pytest.approx((50 + 20) / 2)


def test_intransigence_is_the_gap_on_the_newest_experience(make_record: Make) -> None:
    record, joint = make_record([[90], [0, 70]]), make_record([[92], [90, 80]], strategy="joint")
    assert intransigence(learning_accuracy(record), learning_accuracy(joint)) == 6
    assert not INTRANSIGENCE.higher_is_better


def test_interval_agrees_with_the_table_of_the_t_distribution() -> None:
    result = interval([1.0, 2.0, 3.0, 4.0, 5.0])
    half = 2.776445 * math.sqrt(2.5 / 5)  # Student's t, 4 degrees of freedom, 97.5 %
    assert result == pytest.approx((3, math.sqrt(2.5), 3 - half, 3 + half, 5), rel=1e-6)


def test_interval_of_one_value_has_no_width_and_of_none_no_mean() -> None:
    assert interval([7.0]) == pytest.approx((7, math.nan, math.nan, math.nan, 1), nan_ok=True)
    assert interval([]) == pytest.approx((math.nan,) * 4 + (0,), nan_ok=True)


def test_interval_leaves_undefined_values_out_and_says_so() -> None:
    assert interval([1.0, math.nan, 3.0]) == interval([1.0, 3.0])
    assert interval([1.0, math.nan, 3.0]).n == 2


def test_labels_show_the_direction() -> None:
    assert METRICS["average_incremental_accuracy"].label == "Avg. inc. acc. ↑"
    assert METRICS["forgetting_max_prev"].label == "Forgetting ↓"
    assert all(name == metric.name for name, metric in METRICS.items())


@pytest.fixture(scope="session")
def avalanche() -> Any:
    """Avalanche's metrics, whose import warns of its dependencies."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = pytest.importorskip("avalanche.evaluation.metrics", reason="avalanche-lib is not installed")
        from avalanche.evaluation.metrics import accuracy, forgetting_bwt, forward_transfer

    assert module is not None
    return accuracy, forgetting_bwt, forward_transfer


@SIZES
def test_backward_transfer_is_minus_avalanches_forgetting(
    make_record: Make, avalanche: Any, size: int, seed: int
) -> None:
    record = random_record(make_record, size, seed)
    metric = avalanche[1].Forgetting()
    for t, row in enumerate(accuracy_matrix(record)):
        for j in range(t + 1):
            metric.update(j, row[j], initial=j == t)
    losses = metric.result()
    assert len(losses) == size - 1
    assert bwt_gem(record) == pytest.approx(-np.mean(list(losses.values())))


@SIZES
def test_forward_transfer_is_avalanches(make_record: Make, avalanche: Any, size: int, seed: int) -> None:
    record = random_record(make_record, size, seed, TASKS)
    metric, matrix = avalanche[2].ForwardTransfer(), accuracy_matrix(record)
    for j, value in enumerate(initial_accuracies(record)):
        metric.update(j, value, initial=True)
    for j in range(1, size):
        metric.update(j, matrix[j - 1, j])
    assert fwt_gem(record) == pytest.approx(np.mean(list(metric.result().values())))


@SIZES
def test_seen_accuracy_is_avalanches_accuracy_over_all_predictions(
    make_record: Make, avalanche: Any, size: int, seed: int
) -> None:
    torch = pytest.importorskip("torch")
    record = random_record(make_record, size, seed)
    metric = avalanche[0].Accuracy()
    for m in record.measurements:
        if m.after == size:
            metric.update(torch.arange(m.total) < m.correct, torch.ones(m.total, dtype=torch.bool))
    assert last_accuracy(record) == pytest.approx(100 * metric.result())
