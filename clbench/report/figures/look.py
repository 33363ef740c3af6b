"""How figures look: one colour and marker per row in all figures of a block, and no state outside a figure."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any, Literal, NamedTuple, TypeAlias

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from clbench.errors import ClbenchError
from clbench.metrics import Quantity
from clbench.report.board import Rank, board
from clbench.report.grouping import Block, Row
from clbench.report.view import USUAL, View

COLOURS = ("#7d85fd", "#e37407", "#3ca15b", "#b904b2", "#d22a2a", "#9016fa", "#d46fbd")
"""Chosen by search: apart from each other and from `BOUND` for trichromats and the three kinds of dichromats, and with
a contrast of 3 or more on white and on the dark page."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h")  # 11 and 7 colours: 77 rows before a pair returns
BOUND = "#767676"  # bounds, and whatever is not a row's
INK, GRID, PAPER = "#1c1d1f", "#d9dbde", "#fffffe"  # white but for its last bit, so that a page can tell it from white
FORMATS = ("pdf", "png", "svg")
WRAPPED = 34  # characters of a line of a legend
LINE = 0.135  # inches of a line of a legend
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same letters everywhere
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.3,
    "text.parse_math": False,  # names are no formulas, whatever is in them
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.facecolor": "none",
    "figure.facecolor": PAPER,
    "savefig.facecolor": "auto",
    "savefig.dpi": 200,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "clbench",
    "pdf.fonttype": 42,
    "figure.constrained_layout.h_pad": 0.08,
    "figure.constrained_layout.w_pad": 0.08,
}


Line: TypeAlias = Literal["-", ":", "--"]


class Style(NamedTuple):
    """What tells a row from the others."""

    colour: str
    marker: str
    line: Line


class Skipped(NamedTuple):
    """Why a figure would say nothing about a block."""

    reason: str


class Numbers(NamedTuple):
    """What a figure shows, as a table."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Drawing:
    """A figure with what must be said beside it.

    Attributes:
        figure: not yet written; `written` does it.
        caption: what is shown, in sentences.
        numbers: the means that are drawn.
    """

    figure: Figure
    caption: str
    numbers: Numbers


Drawn: TypeAlias = Drawing | Skipped


@dataclass(frozen=True)
class Scene:
    """A block, made ready to be drawn.

    Attributes:
        rows: in the order of the leaderboard.
        styles: by a row's label.
        quantities: of the leaderboard; the first is the one that rows are ordered by.
        bounds: labels of rows that take no place.
    """

    rows: tuple[Row, ...]
    styles: Mapping[str, Style]
    quantities: tuple[Quantity, ...]
    bounds: frozenset[str]


def scene(block: Block, view: View = USUAL) -> Scene:
    """Give every row of a block its place, colour and marker.

    Colours follow the order of labels, so that they stay when results change; bounds are grey.

    Raises:
        UnknownNameError: there is no such column.
    """
    shown = board(block, view)
    rows = {row.label: row for row in block.rows}
    ranks = {line.label: line.rank for group in shown.groups for line in group}
    contestants = sorted(label for label, rank in ranks.items() if rank is Rank.CONTESTANT)
    styles = {
        label: Style(COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)], "-") for i, label in enumerate(contestants)
    }
    apart = sorted(ranks.keys() - styles.keys())
    lines: dict[Rank, Line] = {Rank.LOWER_BOUND: ":", Rank.UPPER_BOUND: "--"}
    styles |= {label: Style(BOUND, MARKERS[i % len(MARKERS)], lines[ranks[label]]) for i, label in enumerate(apart)}
    return Scene(tuple(rows[label] for label in ranks), styles, shown.quantities, frozenset(apart))


def new_figure(width: float, height: float) -> Figure:
    """A figure of so many inches that belongs to no window and to no list of figures; to be made within `STYLE`."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def broken_label(label: str) -> str:
    """A row's label in lines that are short enough for a legend."""
    return "\n".join(wrap(label, WRAPPED, subsequent_indent="  "))


def legend_height(rows: Sequence[Row]) -> float:
    """Inches that a legend of all rows needs."""
    return 0.3 + LINE * sum(len(broken_label(row.label).splitlines()) + 0.15 for row in rows)


def add_legend(figure: Figure, shown: Scene, *, lines: bool) -> None:
    """All rows beside the axes, in the order of the leaderboard."""
    handles = []
    for row in shown.rows:
        style = shown.styles[row.label]
        handles.append(
            Line2D(
                [],
                [],
                color=style.colour,
                marker=style.marker,
                linestyle=style.line if lines else "",
                markersize=4,
                label=broken_label(row.label),
            )
        )
    figure.legend(handles=handles, loc="outside right upper", borderaxespad=0.6, handletextpad=0.5, labelspacing=0.15)


def written(drawing: Drawing, kind: str) -> bytes:
    """A figure as a file of one of `FORMATS`; the same figure gives the same bytes.

    Raises:
        ClbenchError: there is no such format.
    """
    if kind not in FORMATS:
        raise ClbenchError(f"format must be one of {', '.join(FORMATS)}, got {kind!r}")
    dates: dict[str, dict[str, Any]] = {
        "pdf": {"CreationDate": None},
        "svg": {"Date": None},
        "png": {"Software": None},
    }
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        drawing.figure.savefig(buffer, format=kind, metadata=dates[kind])
    family = b"font-family: 'DejaVu Sans'"
    return buffer.getvalue().replace(family, family + b", sans-serif") if kind == "svg" else buffer.getvalue()
