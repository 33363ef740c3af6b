"""Who is best in a column, and who cannot be told from the best."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from clbench.metrics import Quantity
from clbench.report.grouping import Row
from clbench.report.view import Bold

DECIMALS = 1
LEVEL = 0.05


def places(rows: Sequence[Row], quantity: Quantity, bold: Bold = Bold.BEST) -> dict[str, int]:
    """1 for what stands in bold and 2 for what is underlined, by label; nothing where one runs alone.

    Judged on what is printed, so that equal numbers get equal marks.
    """
    means = {row.label: round(row.interval(quantity.name).mean, DECIMALS) for row in rows}
    known = {mean for mean in means.values() if not math.isnan(mean)}
    best = sorted(known, reverse=quantity.higher_is_better)[:2]
    if len(means) < 2 or not best:
        return {}
    if bold is Bold.BEST:
        return {label: best.index(mean) + 1 for label, mean in means.items() if mean in best}
    leaders = [row for row in rows if means[row.label] == best[0]]
    rest = [row for row in rows if not math.isnan(means[row.label]) and means[row.label] != best[0]]
    worse = holm([paired(leaders[0], row, quantity.name) for row in rest])
    return dict.fromkeys([row.label for row in leaders], 1) | {
        row.label: 1 for row, p in zip(rest, worse, strict=True) if p > LEVEL
    }


def paired(one: Row, other: Row, name: str) -> float:
    """P of a two-sided paired t-test over the seeds that learnt the same data; 1 where fewer than two are shared."""
    values = [_by_data(row, name) for row in (one, other)]
    shared = sorted(values[0].keys() & values[1].keys())
    gaps = np.array([values[0][key] - values[1][key] for key in shared])
    n = len(gaps)
    if n < 2 or not gaps.any():
        return 1.0
    error = float(gaps.std(ddof=1)) / math.sqrt(n)
    if error == 0:
        return 0.0
    # scipy is slow to import, and the command line's help reads the names in this module.
    from scipy.special import stdtr

    return 2 * float(stdtr(n - 1, -abs(float(gaps.mean())) / error))


def holm(values: Sequence[float]) -> list[float]:
    """Holm's step-down correction of p-values for as many comparisons. Holm 1979."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    corrected = [0.0] * len(values)
    least = 0.0
    for rank, i in enumerate(order):
        least = max(least, min(1.0, (len(values) - rank) * values[i]))
        corrected[i] = least
    return corrected


def _by_data(row: Row, name: str) -> dict[tuple[str, int], float]:
    """Defined values by what was learnt and in which order."""
    found = {
        (record.data_digest, record.seed): value
        for record, value in zip(row.records, row.values.get(name, ()), strict=False)
    }
    return {key: value for key, value in found.items() if not math.isnan(value)}
