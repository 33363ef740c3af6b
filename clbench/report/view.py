"""How finished runs are to be shown: the same questions for tables, pictures, pages and figures."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Bold(Enum):
    """What stands in bold."""

    BEST = "best"  # the best mean, and the second best underlined
    SIGNIFICANT = "significant"  # every mean that is not significantly worse than the best


@dataclass(frozen=True)
class View:
    """What a report shows of the runs that it is given.

    Attributes:
        upper_bound: name of the strategy that sees all data again: ruled off below, grey in figures, and what
            intransigence is measured against.
        lower_bound: name of the strategy that does nothing against forgetting: ruled off above, grey in figures.
        columns: names of metrics, ``intransigence``, or ``probe.NAME``; `clbench.report.board.headlines` where there
            are none. Contestants are ordered by the first, and cost is drawn against it. CSV has all columns.
        bold: what stands in bold.
        source: where the records came from, for messages and heads.
        command: what makes the report, for its head.
    """

    upper_bound: str = "joint"
    lower_bound: str = "naive"
    columns: tuple[str, ...] = ()
    bold: Bold = Bold.BEST
    source: str = "these records"
    command: str = "clbench report"


USUAL = View()
"""The view where nothing is asked for."""
