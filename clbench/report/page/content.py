"""What stands on a page, ready for the template: nothing is computed there."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from clbench.record import Record
from clbench.report import wording
from clbench.report.board import ACCESS, MISSING, TUNING_SCORE, Board, Cell, board, number
from clbench.report.figures.catalogue import FIGURES, drawings
from clbench.report.figures.look import Drawing, Numbers, Skipped
from clbench.report.grouping import Block, Row
from clbench.report.heat import colours, mean_matrix
from clbench.report.heat import shown as spaced
from clbench.report.page.inline import inline_svg
from clbench.report.summary import choice, short
from clbench.report.view import USUAL, View

DRAWN = tuple(name for name in FIGURES if name != "matrices")  # those are tables, whose numbers can be read


class Column(NamedTuple):
    """The head of a column of a leaderboard."""

    head: str
    first: str  # how it is sorted at first, for aria-sort


class Entry(NamedTuple):
    """A cell of a leaderboard."""

    text: str
    place: int
    value: float | None  # what it is sorted by; None = by its text


class Run(NamedTuple):
    """One run behind a row."""

    record: Record
    values: tuple[str, ...]  # of each quantity of the leaderboard, and of its learning time


class Line(NamedTuple):
    """A row of a leaderboard, and what is behind it."""

    label: str
    entries: tuple[Entry, ...]
    runs: tuple[Run, ...]
    choice: str
    settings: tuple[str, ...]


class Picture(NamedTuple):
    """A figure of a block."""

    title: str
    svg: str
    caption: str
    numbers: Numbers


class Heat(NamedTuple):
    """A cell of a matrix."""

    text: str
    style: str


class Matrix(NamedTuple):
    """An accuracy matrix, of a long stream rows and columns evenly spaced."""

    label: str
    places: tuple[int, ...]  # experiences, counted from 1
    rows: tuple[tuple[Heat, ...], ...]


@dataclass(frozen=True)
class Sheet:
    """A block on the page.

    Attributes:
        name: what its parts are called by on the page.
        board: its leaderboard.
        columns: of the leaderboard, after the rows' names.
        groups: as the leaderboard's, ruled off from each other.
        pictures: figures that make sense for it.
        skipped: titles of the others, and the reasons.
        matrices: one per row; none of a stream of one experience.
    """

    name: str
    board: Board
    columns: tuple[Column, ...]
    groups: tuple[tuple[Line, ...], ...]
    pictures: tuple[Picture, ...]
    skipped: tuple[tuple[str, str], ...]
    matrices: tuple[Matrix, ...]


def sheet(block: Block, name: str, view: View = USUAL) -> Sheet:
    """All that the page shows of a block.

    Raises:
        UnknownNameError: there is no such column.
    """
    laid = board(block, view)
    rows = {row.label: row for row in block.rows}
    groups = tuple(tuple(_line(laid, line.label, rows[line.label]) for line in group) for group in laid.groups)
    found = drawings(block, view, DRAWN)
    pictures = tuple(
        _picture(FIGURES[key][0], f"{name}-{key}", drawn)
        for key, drawn in found.items()
        if not isinstance(drawn, Skipped)
    )
    skipped = tuple((FIGURES[key][0], drawn.reason) for key, drawn in found.items() if isinstance(drawn, Skipped))
    several = block.rows[0].entries[0].experiences > 1
    matrices = tuple(_matrix(rows[line.label]) for group in groups for line in group if several)
    return Sheet(name, laid, _columns(laid), groups, pictures, skipped, matrices)


def _picture(title: str, name: str, drawn: Drawing) -> Picture:
    return Picture(title, inline_svg(drawn, name, f"{title}. {drawn.caption}"), drawn.caption, drawn.numbers)


def _columns(laid: Board) -> tuple[Column, ...]:
    ranked = [Column(q.label, "descending" if q.higher_is_better else "ascending") for q in laid.quantities]
    return (*ranked, *(Column(head, "descending" if head == TUNING_SCORE else "ascending") for head in laid.extras))


def _line(laid: Board, label: str, row: Row) -> Line:
    line = next(line for group in laid.groups for line in group if line.label == label)
    means = [row.interval(quantity.name).mean for quantity in laid.quantities]
    ranked = [Entry(_text(cell), cell.place, mean) for cell, mean in zip(line.cells, means, strict=True)]
    known = {ACCESS: None, TUNING_SCORE: row.tuning_score, "n": float(len(row.records))}
    beside = [
        Entry(text, 0, known.get(head, row.interval("learn_seconds").mean))
        for head, text in zip(laid.extras, line.extras, strict=True)
    ]
    names = [*(quantity.name for quantity in laid.quantities), "learn_seconds"]
    runs = (Run(record, tuple(number(row.values[name][i]) for name in names)) for i, record in enumerate(row.records))
    return Line(label, (*ranked, *beside), tuple(runs), choice(row), _settings(row.records[0]))


def _text(cell: Cell) -> str:
    return (f"{cell.mean} ± {cell.half}" if cell.half else cell.mean) + cell.fewer


def _settings(record: Record) -> tuple[str, ...]:
    adapter = record.model_config.get("adapter", {})
    shown = record.strategy_config | ({"adapter": adapter} if adapter.get("rank") else {})
    return tuple(f"{name}={short(value)}" for name, value in wording.flat(shown).items())


def _matrix(row: Row) -> Matrix:
    mean = mean_matrix(row.whole())
    places = spaced(len(mean))
    rows = tuple(tuple(_heat(float(mean[t, j])) for j in places) for t in places)
    return Matrix(row.label, tuple(j + 1 for j in places), rows)


def _heat(percent: float) -> Heat:
    if math.isnan(percent):
        return Heat(MISSING, "")
    back, front = ("#" + bytes(colour).hex() for colour in colours(percent))
    return Heat(number(percent), f"background:{back};color:{front}")
