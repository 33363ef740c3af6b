"""What figures draw beyond the leaderboard's numbers, read from the runs of a row in one place."""

from __future__ import annotations

import numpy as np

from clbench.metrics import Array, Interval, accuracy_matrix, interval, probe_scores, seen_accuracy
from clbench.record import Record, Setting
from clbench.report.grouping import Row


def curves(row: Row) -> Array:
    """Accuracy on all experiences so far, (runs, T), percent; NaN = not measured.

    Over test examples together, which ends at `last_accuracy`; of instruction streams the mean over experiences, which
    ends at `last_accuracy_macro`, as their tables have it.
    """
    return np.stack([_curve(record) for record in row.whole()])


def _curve(record: Record) -> Array:
    if record.setting is not Setting.INSTRUCTION:
        return seen_accuracy(record)
    matrix = accuracy_matrix(record)
    return np.array([learnt[: t + 1].mean() for t, learnt in enumerate(matrix)])


def bands(values: Array) -> list[Interval]:
    """Mean and 95 % t-interval over runs at each moment, of values (runs, moments)."""
    return [interval(column.tolist()) for column in values.T]


def probe_ends(row: Row, name: str) -> Array:
    """A probe before the first and after the last experience, (runs, 2): percent, or perplexity."""
    return np.stack([probe_scores(record, name)[[0, -1]] for record in row.whole()])
