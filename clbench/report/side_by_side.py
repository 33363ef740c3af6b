"""Published numbers beside measured ones, as lines of text; what is missing is counted by its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import groupby

from clbench.comparison import Comparison, Verdict
from clbench.reported import Reported

HEADS = ("strategy", "metric", "reported", "measured", "difference", "tolerance", "verdict")
LEFT = (0, 1, 6)  # columns that are texts


def lines(comparisons: Sequence[Comparison]) -> list[str]:
    """A table per published table and conditions, then how many numbers have nothing beside them, and why."""
    measured = [found for found in comparisons if found.measured is not None]
    shown: list[str] = []
    for head, group in groupby(measured, key=lambda found: _head(found.reported)):
        rows = [_cells(found) for found in group]
        shown += [head, *_aligned([HEADS, *rows]), ""]
    unmeasured = Counter(found.reason for found in comparisons if found.measured is None)
    if unmeasured:
        shown.append("nothing to compare:")
        shown += [f"{count:6d}  {reason}" for reason, count in unmeasured.most_common()]
    return shown


def sentence(found: Comparison) -> str:
    """One comparison in words."""
    row, (_, _, reported, measured, difference, allowed, _) = found.reported, _cells(found)
    verdict = "" if found.verdict is Verdict.UNDECIDED else f", {found.verdict.value} the tolerance of {allowed}"
    return (
        f"{row.strategy}, {row.metric}: published {reported} ({row.paper}, {row.table}; {row.place}), "
        f"measured {measured}: {difference}{verdict}"
    )


def _head(row: Reported) -> str:
    return f"{row.paper}, {row.table}: {row.scenario}, {row.model}, {row.protocol}"


def _cells(found: Comparison) -> tuple[str, ...]:
    row, ours = found.reported, found.measured
    decided = found.verdict is not Verdict.UNDECIDED
    return (
        row.strategy,
        row.metric,
        _with_spread(row.value, row.spread, row.n),
        "" if ours is None else _with_spread(ours.mean, ours.std if ours.n > 1 else None, ours.n),
        "" if ours is None else f"{found.difference:+.2f}",
        f"{found.tolerance:.2f}" if decided else "-",
        found.verdict.value + ("" if decided else f": {found.reason}"),
    )


def _with_spread(mean: float, spread: float | None, n: int | None) -> str:
    """``89.12 ± 0.40 (n = 3)``, the number behind ± being the standard deviation over seeds."""
    return f"{mean:.2f}{'' if spread is None else f' ± {spread:.2f}'} (n = {'?' if n is None else n})"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    columns = list(zip(*rows, strict=True))
    padded = []
    for i, column in enumerate(columns):
        width = max(map(len, column))
        padded.append([cell.ljust(width) if i in LEFT else cell.rjust(width) for cell in column])
    return ["  " + "  ".join(cells).rstrip() for cells in zip(*padded, strict=True)]
