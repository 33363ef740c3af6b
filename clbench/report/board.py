"""One block as a leaderboard: cells with their places, before any markup."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from textwrap import wrap
from typing import NamedTuple

from clbench.metrics import LIKELIHOOD, METRICS, Interval, Quantity
from clbench.record import Setting
from clbench.registry import unknown
from clbench.report import wording
from clbench.report.conditions import unlike
from clbench.report.contest import DECIMALS, places
from clbench.report.grouping import Block, Row
from clbench.report.quantities import COSTS, of_probes
from clbench.report.view import USUAL, Bold, View

HEADLINES = {
    Setting.INSTRUCTION: ("last_accuracy_macro", "bwt_trace", "learning_accuracy", "probe_change", "perplexity_ratio"),
    Setting.EDITING: (
        "reliability",
        "probe.generalisation",
        "probe.locality_near",
        "probe.locality_far",
        "probe.capability",
        "perplexity_ratio",
    ),
    None: ("average_incremental_accuracy", "last_accuracy", "forgetting_max_prev", "learning_accuracy"),
}
"""Columns that are shown where none are named, by setting; perplexity only where no probed ability counts answers."""
DISPUTED = frozenset({"forgetting_max_prev"})  # of many definitions under one title: notes name the one that is shown
ACCESS = "Access"
TUNING_SCORE = "Score on tuning half"
FEWER = "*"
DIVERGED = "†"
WORD = 12  # characters of a word in a column's head
HEAD_WIDTH = 9  # characters; column heads are broken into lines of it
MISSING = "\N{EN DASH}"
CONTESTS = {
    Bold.BEST: "Best in bold, second underlined",
    Bold.SIGNIFICANT: "In bold what is not significantly worse than the best (paired t-test over seeds, Holm, 5 %)",
}


class Rank(Enum):
    """What a row is in the contest."""

    LOWER_BOUND = 0
    CONTESTANT = 1
    UPPER_BOUND = 2


class Cell(NamedTuple):
    """A mean over seeds, as it is printed."""

    mean: str
    half: str  # of the 95 % interval; empty where it is undefined
    fewer: str  # a mark where the mean is over fewer runs than the row's n
    place: int  # 1 = best, 2 = second, 0 = neither or not contested


@dataclass(frozen=True)
class Line:
    """One row as it is printed.

    Attributes:
        label: name of the row.
        rank: bounds stand apart and take no place.
        cells: one per quantity of the board.
        extras: one per extra column of the board; never ranked.
    """

    label: str
    rank: Rank
    cells: tuple[Cell, ...]
    extras: tuple[str, ...]


@dataclass(frozen=True)
class Board:
    """A block as it is printed: columns for the label, for each quantity, and extras."""

    title: str
    quantities: tuple[Quantity, ...]
    extras: tuple[str, ...]  # heads of the columns that are not ranked
    groups: tuple[tuple[Line, ...], ...]  # ruled off from each other: lower bounds, contestants, upper bounds
    notes: tuple[str, ...]

    @property
    def heads(self) -> tuple[str, ...]:
        """Heads of all columns."""
        return ("Strategy", *(q.label for q in self.quantities), *self.extras)


def headlines(row: Row) -> tuple[str, ...]:
    """Columns for runs of this kind where none are named."""
    usual = HEADLINES.get(row.records[0].setting, HEADLINES[None])
    units = row.probed
    able = [name for name, unit in units.items() if unit == "accuracy" and not name.startswith("locality")]
    hidden = {"perplexity_ratio"} if able or LIKELIHOOD not in units.values() else {"probe_change"}
    probed = of_probes(units)
    return tuple(name for name in usual if (name in METRICS or name in probed) and name not in hidden)


def board(block: Block, view: View = USUAL) -> Board:
    """Lay a block out: contestants from best to worst by the first column, bounds before and after them.

    Args:
        block: what is laid out.
        view: names the bounds, the columns, and what stands in bold.

    Raises:
        UnknownNameError: there is no such column.
    """
    ranks = {view.upper_bound: Rank.UPPER_BOUND, view.lower_bound: Rank.LOWER_BOUND}
    quantities = _quantities(view.columns or headlines(block.rows[0]), block.quantities)
    rows = sorted(block.rows, key=lambda row: _order(row, quantities[0]))
    contestants = [row for row in rows if row.strategy not in ranks]
    marks = {q.name: places(contestants, q, view.bold) for q in quantities}
    tuned = any(not math.isnan(row.tuning_score) for row in rows)
    seen = block.first.setting is Setting.EDITING
    lines = [_line(row, ranks.get(row.strategy, Rank.CONTESTANT), quantities, marks, tuned, seen) for row in rows]
    groups = (tuple(line for line in lines if line.rank is rank) for rank in Rank)
    extras = (*([ACCESS] if seen else []), *([TUNING_SCORE] if tuned else []), "Learning time (s)", "n")
    notes = _notes(block, quantities, ranks, view.bold)
    return Board(block.title, quantities, extras, tuple(filter(None, groups)), notes)


def _quantities(columns: Sequence[str], known: Mapping[str, Quantity]) -> tuple[Quantity, ...]:
    offered = {name: quantity for name, quantity in known.items() if name not in COSTS}
    for name in columns:
        if name not in offered:
            raise unknown("column", name, sorted(offered))
    return tuple(offered[name] for name in columns)


def _order(row: Row, quantity: Quantity) -> tuple[float, str]:
    mean = row.interval(quantity.name).mean
    worth = mean if quantity.higher_is_better else -mean
    return (math.inf if math.isnan(mean) else -worth, row.label)


def _line(
    row: Row,
    rank: Rank,
    quantities: Sequence[Quantity],
    marks: dict[str, dict[str, int]],
    tuned: bool,
    seen: bool,
) -> Line:
    cells = [_cell(row.interval(q.name), marks[q.name].get(row.label, 0), len(row.records)) for q in quantities]
    seconds = number(row.interval("learn_seconds").mean)
    n = f"{len(row.records)} ({row.diverged}{DIVERGED})" if row.diverged else str(len(row.records))
    access = [row.records[0].access] if seen else []
    return Line(row.label, rank, tuple(cells), (*access, *([number(row.tuning_score)] if tuned else []), seconds, n))


def _cell(value: Interval, place: int, runs: int) -> Cell:
    if value.n == 0:
        return Cell(MISSING, "", "", 0)
    half = "" if math.isnan(value.high) else number(value.high - value.mean)
    return Cell(number(value.mean), half, FEWER if value.n < runs else "", place)


def _notes(block: Block, quantities: Sequence[Quantity], ranks: dict[str, Rank], bold: Bold) -> tuple[str, ...]:
    rows = {row.label: row for row in block.rows}
    seeds = {label: f"{wording.seeds(row.seeds)} (n = {len(row.records)})" for label, row in rows.items()}
    budgets = {label: wording.budget(row.records[0]) for label, row in rows.items()}
    diverged = sum(row.diverged for row in block.rows)
    fewer = any(0 < row.interval(q.name).n < len(row.records) for row in block.rows for q in quantities)
    alone = any(not row.seeds[1:] for row in block.rows)
    undefined = any(row.interval(q.name).n == 0 for row in block.rows for q in quantities)
    spread = "; ± is the half-width of the 95 % t-interval over seeds" if any(r.seeds[1:] for r in block.rows) else ""
    sentences = [
        f"Accuracies in percent, differences in points{spread}",
        f"Seeds {wording.shared(seeds)}; a seed draws {_drawn(block)}",
        f"Protocol {block.first.protocol}, {wording.shared(budgets)}",
        "; ".join(f"{q.title} is {q.name}" for q in quantities if q.name in DISPUTED),
        _tuning_note(block),
        _contest_note(block, ranks, bold),
        unlike(block),
        f"{MISSING} undefined, or not measured" if undefined else "",
        "One seed has no interval: nothing says how far seeds differ" if alone else "",
        f"{FEWER} mean over the runs where it is defined, fewer than n" if fewer else "",
        f"{DIVERGED} {wording.count(diverged, 'run')} diverged: what was not measured counts as chance"
        if diverged
        else "",
    ]
    return tuple(f"{sentence}." for sentence in sentences if sentence)


def _drawn(block: Block) -> str:
    if block.first.setting is Setting.EDITING:
        return "the edits, their order and the batches"
    return (
        "the examples and the batches"
        if block.first.setting.in_words
        else "the class order, the initialisation and the batches"
    )


def _tuning_note(block: Block) -> str:
    criteria = {r.selection.criterion for r in block.records if r.selection.tuning_score is not None}
    if not criteria:
        return ""
    return f"Tuning scores are {' or '.join(sorted(criteria))} on the tuning half, which no other column has seen"


def _contest_note(block: Block, ranks: dict[str, Rank], bold: Bold) -> str:
    present = {row.strategy for row in block.rows}
    bounds = sorted(present & set(ranks), key=lambda name: ranks[name].value)
    contest = CONTESTS[bold] if len(present - set(ranks)) > 1 else ""
    verb = "are bounds" if len(bounds) > 1 else "is a bound"
    apart = f"{' and '.join(bounds)} {verb} and not ranked" if bounds else ""
    return "; ".join(filter(None, (contest, apart)))


def broken(head: str, width: int = HEAD_WIDTH) -> list[str]:
    """A column's head in lines, so that the column is hardly wider than its numbers; very long words are parted."""
    words = (w if len(w) <= WORD else f"{w[: width - 1]}- {w[width - 1 :]}" for w in head.split())
    return wrap(" ".join(words), width, break_long_words=False, break_on_hyphens=False)


def number(value: float) -> str:
    """A figure of a table, a dash where it is undefined; never ``-0.0``."""
    return MISSING if math.isnan(value) else f"{round(value, DECIMALS) + 0.0:.{DECIMALS}f}"
