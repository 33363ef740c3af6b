"""Figures of merit, each a pure function of one record's counts. Nothing here trains, predicts or reads files.

Notation: T experiences; R[t, j] is the accuracy on experience j after learning experiences 0..t, in percent; a_t is the
accuracy over the test examples of experiences 0..t together. Libraries call different things "forgetting" and
"backward transfer", so a name here belongs to one formula. Accuracies are in percent, differences in percentage points.

A diverged run counts as chance wherever it was not measured: 100 / (classes seen so far) where the learner is not told
the experience, 100 / (classes of that experience) where it is, 0 where answers are texts, and 0 on probes that count
accuracy. A run that is still going on gives NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from clbench.record import Record, Setting, Status

Array: TypeAlias = npt.NDArray[np.float64]

LIKELIHOOD = "log_likelihood"
RELIABLE = 95.0  # percent: near enough to all
LARGEST = 700.0  # nats per token; exp of more is no number


def accuracy_matrix(record: Record) -> Array:
    """R (T, T), percent: row t after learning experience t, column j the experience tested; NaN = not measured."""
    correct, total = _counts(record)
    return 100 * _ratio(correct[1:], total[1:])


def initial_accuracies(record: Record) -> Array:
    """Accuracy on each experience before any training, b (T,), percent; NaN = not measured."""
    correct, total = _counts(record)
    return 100 * _ratio(correct[0], total[0])


def seen_accuracy(record: Record) -> Array:
    """Accuracy over the test examples of experiences 0..t together (micro average), a (T,), percent."""
    correct, total = _counts(record)
    seen = np.tri(len(record.experiences), dtype=bool)
    hits, asked = (np.where(seen, counts[1:], 0.0).sum(axis=1) for counts in (correct, total))
    return 100 * _ratio(hits, asked)


def average_incremental_accuracy(record: Record) -> float:
    """(1/T) sum_t a_t, percent. Rebuffi et al. 2017 (iCaRL), "average incremental accuracy".

    Where a stream is measured at some moments only, the mean over those.
    """
    seen = seen_accuracy(record)
    if record.status is Status.FINISHED:
        moments = {entry.after for entry in record.measurements if entry.after and entry.total}
    else:
        moments = record.notes.get("stream", {}).get("moments", range(1, len(seen) + 1))
    return float(seen[[after - 1 for after in sorted(moments)]].mean())


def last_accuracy(record: Record) -> float:
    """a_{T-1}, percent: accuracy over all test examples after the last experience."""
    return float(seen_accuracy(record)[-1])


def last_accuracy_macro(record: Record) -> float:
    """(1/T) sum_j R[T-1, j], percent: every experience counts the same, whatever its size. Lopez-Paz & Ranzato 2017.

    The overall performance OP_T of Wang et al. 2023 (TRACE).
    """
    return float(accuracy_matrix(record)[-1].mean())


def reliability(record: Record) -> float:
    """a_{T-1} of a stream of edits, percent: prompts of all edits so far that are answered with the new target.

    By free generation, exactly (Yang et al. 2025, LocFT-BF, section 3). NaN for other streams.
    """
    return last_accuracy(record) if record.setting is Setting.EDITING else math.nan


def editing_score(record: Record) -> float:
    """What a location for edits is chosen by: capability where reliability is 95 % or more, then generalisation.

    Reliability - 100 below that; else capability + generalisation / 1000, so that the second decides between equals
    only; one that is not measured counts nothing. Capability is the mean of the probes of what must stay, locality
    apart where there are others. Yang et al. 2025 (LocFT-BF), section 3, say the rule in words; the numbers are ours.
    NaN for other streams.
    """
    held = reliability(record)
    if math.isnan(held) or held < RELIABLE:
        return held - 100
    kept = [name for name in probe_names(record, "accuracy") if not name.startswith("locality")]
    able = _mean(np.array([probe_scores(record, name)[-1] for name in kept or probe_names(record, "accuracy")]))
    general = float(probe_scores(record, "generalisation")[-1])
    return float(np.nan_to_num(able)) + float(np.nan_to_num(general)) / 1000


def mean_average_accuracy(record: Record) -> float:
    """(1/T) sum_t (1/(t+1)) sum_{j<=t} R[t, j], percent. Chen et al. 2024 (CoIN), "mean average accuracy"."""
    matrix = accuracy_matrix(record)
    return float(np.mean([row[: t + 1].mean() for t, row in enumerate(matrix)]))


def initial_accuracy_macro(record: Record) -> float:
    """(1/T) sum_j b_j, percent: before any training; NaN where that was not measured."""
    return float(initial_accuracies(record).mean())


def probe_scores(record: Record, name: str) -> Array:
    """A probe before the first and after each experience, (T+1,): percent, or perplexity; NaN = not measured.

    Perplexity is exp of minus the log-likelihood per token.
    """
    scores: Array = np.full(len(record.experiences) + 1, np.nan)
    for entry in record.probes:
        if entry.probe == name:
            mean = entry.total / entry.count if entry.count else math.nan
            scores[entry.after] = math.exp(min(-mean, LARGEST)) if entry.unit == LIKELIHOOD else 100 * mean
    known = {*probe_names(record, "accuracy"), *probe_names(record, "gain")}
    if record.status is Status.DIVERGED and name in known:
        scores = np.where(np.isnan(scores), 0.0, scores)
    return scores


def probe_names(record: Record, unit: str) -> list[str]:
    """Probes of a unit (`clbench.probe.Unit`), in the order in which they are measured."""
    return list(dict.fromkeys(entry.probe for entry in record.probes if entry.unit == unit))


def probe_accuracy(record: Record) -> float:
    """Mean over the probes that count accuracy, after the last experience, percent; NaN without such probes."""
    return _mean(np.array([probe_scores(record, name)[-1] for name in probe_names(record, "accuracy")]))


def probe_change(record: Record) -> float:
    """Mean over probes of (score after the last experience - score before the first), percentage points.

    The general-ability delta of Wang et al. 2023 (TRACE), over the probes that count accuracy.
    """
    found = [probe_scores(record, name) for name in probe_names(record, "accuracy")]
    return _mean(np.array([scores[-1] - scores[0] for scores in found]))


def probe_forgetting(record: Record) -> float:
    """Mean over probes of (best score before the last experience - score after it), percentage points."""
    found = [probe_scores(record, name) for name in probe_names(record, "accuracy")]
    return _mean(np.array([scores[:-1].max() - scores[-1] for scores in found]))


def perplexity_ratio(record: Record) -> float:
    """Perplexity of the probes' texts after the last experience over that before the first, geometric mean."""
    found = [probe_scores(record, name) for name in probe_names(record, LIKELIHOOD)]
    return math.exp(_mean(np.array([math.log(scores[-1] / scores[0]) for scores in found])))


def change_from_start(record: Record) -> float:
    """(1/T) sum_j (R[T-1, j] - b_j), percentage points: against the model that the run began with.

    The instruction-following delta of Wang et al. 2023 (TRACE), where R is measured by reference answers.
    """
    return last_accuracy_macro(record) - initial_accuracy_macro(record)


def forgetting_max_prev(record: Record) -> float:
    """1/(T-1) sum_{j<T-1} (max_{j<=l<=T-2} R[l, j] - R[T-1, j]), percentage points; NaN for T = 1.

    Chaudhry et al. 2018 (Riemannian walk), eq. 3. The maximum leaves the last row out, so the value is negative where
    the last experience helped the earlier ones.
    """
    return _forgetting(record, last_row_counts=False)


def forgetting_max_all(record: Record) -> float:
    """As `forgetting_max_prev`, with max_{j<=l<=T-1}: never below 0. What PyCIL and Mammoth call forgetting."""
    return _forgetting(record, last_row_counts=True)


def bwt_gem(record: Record) -> float:
    """1/(T-1) sum_{j<T-1} (R[T-1, j] - R[j, j]), percentage points; NaN for T = 1. Lopez-Paz & Ranzato 2017 (GEM).

    Its negative is what Avalanche calls forgetting.
    """
    return _mean(_changes(record)[-1, :-1])


def bwt_pairs(record: Record) -> float:
    """2/(T(T-1)) sum_{j<t} (R[t, j] - R[j, j]), percentage points; NaN for T = 1. Diaz-Rodriguez et al. 2018."""
    changes = _changes(record)
    return _mean(changes[np.tri(len(changes), k=-1, dtype=bool)])


def bwt_trace(record: Record) -> float:
    """`bwt_gem` times (T-1)/T: 1/T sum_{j<T} (R[T-1, j] - R[j, j]), percentage points; NaN for T = 1.

    Wang et al. 2023 (TRACE). The last experience's change, always 0, is averaged in.
    """
    changes = _changes(record)
    return _mean(changes[-1]) if len(changes) > 1 else math.nan


def fwt_gem(record: Record) -> float:
    """1/(T-1) sum_{j>=1} (R[j-1, j] - b_j), percentage points; NaN for T = 1. Lopez-Paz & Ranzato 2017 (GEM).

    b_j is the accuracy on experience j before any training. NaN for class-incremental records, where a class that has
    not been seen cannot be answered.
    """
    if record.setting is Setting.CLASS_INCREMENTAL:
        return math.nan
    before = np.diagonal(accuracy_matrix(record), offset=1)
    return _mean(before - initial_accuracies(record)[1:])


def learning_accuracy(record: Record) -> float:
    """(1/T) sum_t R[t, t], percent: how well each experience was learnt when it came. Riemer et al. 2019 (MER).

    The learner's plasticity.
    """
    return float(np.diagonal(accuracy_matrix(record)).mean())


def intransigence(learnt: float, joint: float) -> float:
    """(1/T) sum_t (J[t, t] - R[t, t]), percentage points: what could not be learnt for the sake of the old.

    Chaudhry et al. 2018, averaged over t.

    Args:
        learnt: `learning_accuracy` of the learner, percent.
        joint: that of a learner that trains on all experiences so far, of the same data in the same order.
    """
    return joint - learnt


def _counts(record: Record) -> tuple[Array, Array]:
    """Right answers and examples, each (T+1, T) with one row per number of experiences learnt; NaN = not measured."""
    size = len(record.experiences)
    correct: Array = np.full((size + 1, size), np.nan)
    total: Array = np.full((size + 1, size), np.nan)
    for entry in record.measurements:
        correct[entry.after, entry.experience] = entry.correct
        total[entry.after, entry.experience] = entry.total
    if record.status is Status.DIVERGED:
        tests = np.array([e.test for e in record.experiences], dtype=np.float64)
        rate = _chance(record)
        total = np.where(np.isnan(correct) & ~np.isnan(rate), tests, total)
        correct = np.where(np.isnan(correct), rate * tests, correct)
    return correct, total


def _chance(record: Record) -> Array:
    """Share of right answers by guessing, (T+1, T); NaN where a finished run would not be measured either."""
    classes = np.array([e.classes for e in record.experiences], dtype=np.float64)
    size = len(classes)
    if record.setting.in_words:
        seen = np.where(np.tri(size, dtype=bool), 0.0, np.nan)
        return np.vstack([np.zeros(size), seen])
    if record.setting is Setting.TASK_INCREMENTAL:
        return np.tile(1 / classes, (size + 1, 1))
    rates = np.tile(1 / np.cumsum(classes)[:, None], (1, size))
    seen = np.where(np.tri(size, dtype=bool), rates, np.nan)
    return np.vstack([np.full(size, np.nan), seen])


def _ratio(correct: Array, total: Array) -> Array:
    """Shares; NaN where nothing was asked."""
    asked = np.where(total > 0, total, np.nan)
    shares: Array = correct / asked
    return shares


def _forgetting(record: Record, last_row_counts: bool) -> float:
    matrix = accuracy_matrix(record)
    rows = len(matrix) if last_row_counts else len(matrix) - 1
    losses = [matrix[j:rows, j].max() - matrix[-1, j] for j in range(len(matrix) - 1)]
    return _mean(np.array(losses))


def _changes(record: Record) -> Array:
    matrix = accuracy_matrix(record)
    return matrix - np.diagonal(matrix)


def _mean(values: Array) -> float:
    return float(values.mean()) if len(values) else math.nan


class Interval(NamedTuple):
    """A mean over seeds and how sure of it one may be."""

    mean: float
    std: float  # of the sample, ddof = 1
    low: float
    high: float
    n: int  # values that are defined


def interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Mean, sample standard deviation and t-interval; undefined values (NaN) are left out and not counted in n.

    Args:
        values: one per seed.
        level: coverage of the interval, in 0..1.

    Returns:
        All NaN for n = 0; std and limits NaN for n = 1, where nothing says how far seeds differ.
    """
    defined = np.array([value for value in values if not math.isnan(value)], dtype=np.float64)
    n = len(defined)
    if n < 2:
        return Interval(_mean(defined), math.nan, math.nan, math.nan, n)
    # scipy is slow to import, and the command line's help reads the names of the metrics.
    from scipy.special import stdtrit

    mean, std = float(defined.mean()), float(defined.std(ddof=1))
    half = float(stdtrit(n - 1, (1 + level) / 2)) * std / math.sqrt(n)
    return Interval(mean, std, mean - half, mean + half, n)


@dataclass(frozen=True)
class Quantity:
    """Something that a table has a column for."""

    name: str
    title: str  # for people, without direction
    higher_is_better: bool
    unit: str  # "%", "pp" (percentage points) or that of a cost

    @property
    def label(self) -> str:
        """Title and direction, for the heads of columns."""
        return f"{self.title} {'↑' if self.higher_is_better else '↓'}"


@dataclass(frozen=True)
class Metric(Quantity):
    """A quantity that one record determines."""

    function: Callable[[Record], float]


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("average_incremental_accuracy", "Avg. inc. acc.", True, "%", average_incremental_accuracy),
        Metric("last_accuracy", "Last acc.", True, "%", last_accuracy),
        Metric("last_accuracy_macro", "Last acc. (macro)", True, "%", last_accuracy_macro),
        Metric("forgetting_max_prev", "Forgetting", False, "pp", forgetting_max_prev),
        Metric("forgetting_max_all", "Forgetting (max over all)", False, "pp", forgetting_max_all),
        Metric("bwt_gem", "BWT (GEM)", True, "pp", bwt_gem),
        Metric("bwt_pairs", "BWT (pairs)", True, "pp", bwt_pairs),
        Metric("bwt_trace", "BWT (TRACE)", True, "pp", bwt_trace),
        Metric("fwt_gem", "FWT (GEM)", True, "pp", fwt_gem),
        Metric("learning_accuracy", "Learning acc.", True, "%", learning_accuracy),
        Metric("mean_average_accuracy", "Mean average acc.", True, "%", mean_average_accuracy),
        Metric("reliability", "Reliability", True, "%", reliability),
        Metric("editing_score", "Editing score", True, "", editing_score),
        Metric("change_from_start", "Change from start", True, "pp", change_from_start),
        Metric("probe_accuracy", "Probes", True, "%", probe_accuracy),
        Metric("probe_change", "Probes, change", True, "pp", probe_change),
        Metric("probe_forgetting", "Probes, forgetting", False, "pp", probe_forgetting),
        Metric("perplexity_ratio", "Perplexity ratio", False, "", perplexity_ratio),
    )
}
INTRANSIGENCE = Quantity("intransigence", "Intransigence", False, "pp")
"""Apart from `METRICS`, since it takes a second record."""
