"""What was able before and is able after a stream of texts or edits: one panel per probe, one line per row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from clbench.metrics import Quantity, interval
from clbench.report import wording
from clbench.report.board import broken, number
from clbench.report.figures.look import (
    LINE,
    PAPER,
    STYLE,
    Drawing,
    Drawn,
    Numbers,
    Scene,
    Skipped,
    broken_label,
    new_figure,
)
from clbench.report.figures.measured import probe_ends
from clbench.report.figures.scales import logarithmic, spans_a_decade
from clbench.report.grouping import Row
from clbench.report.quantities import of_probes

FIT = 5  # panels side by side


def probes_before_after(shown: Scene) -> Drawn:
    """Each probe before the first and after the last experience; those of the table, or else the first few.

    Returns:
        A reason where nothing is probed.
    """
    offered = of_probes(shown.rows[0].probed)
    chosen = [q for q in shown.quantities if q.name in offered] or list(offered.values())
    if not chosen:
        return Skipped("nothing is probed beside the stream")
    drawn = chosen[:FIT]
    with matplotlib.rc_context(STYLE | {"axes.grid.axis": "x"}):
        tall = [LINE * len(broken_label(row.label).splitlines()) + 0.06 for row in shown.rows]
        figure = new_figure(2.4 + min(1.35 * len(drawn), 4), 1.0 + sum(tall))
        panels = figure.subplots(1, len(drawn), sharey=True, squeeze=False)[0]
        heights = _heights(tall)
        for axes, quantity in zip(panels, drawn, strict=True):
            _panel(axes, quantity, shown, heights)
        panels[0].set_yticks(heights, [broken_label(row.label) for row in shown.rows])
        panels[0].set_ylim(sum(tall), 0)
    left = len(chosen) - len(drawn)
    rest = f" {wording.count(left, 'probe')} left out." if left else ""
    caption = (
        f"From before the first experience (hollow) to after the last (filled), means; small dots are seeds.{rest}"
    )
    return Drawing(figure, caption, _numbers(shown.rows, drawn))


def _heights(tall: Sequence[float]) -> list[float]:
    """Middles of lines that are so tall, from the top."""
    return [sum(tall[:i]) + own / 2 for i, own in enumerate(tall)]


def _panel(axes: Axes, quantity: Quantity, shown: Scene, heights: Sequence[float]) -> None:
    seen: list[float] = []
    for row, height in zip(shown.rows, heights, strict=True):
        style = shown.styles[row.label]
        ends = probe_ends(row, quantity.name.removeprefix("probe."))
        before, after = (interval(column.tolist()).mean for column in ends.T)
        seen += [value for value in (before, after) if not math.isnan(value)]
        axes.plot([before, after], [height] * 2, color=style.colour, linewidth=1.1, zorder=2)
        dots = ends[:, 1]
        axes.plot(dots, [height] * len(dots), ".", color=style.colour, alpha=0.55, markersize=3, markeredgewidth=0)
        look: dict[str, Any] = {
            "color": style.colour,
            "marker": style.marker,
            "markersize": 4.5,
            "linestyle": "",
            "zorder": 3,
        }
        axes.plot([before], [height], markerfacecolor=PAPER, **look)
        axes.plot([after], [height], label=row.label, **look)
    axes.set_title("\n".join(broken(quantity.label)))
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.set_xlabel(quantity.unit or "perplexity")
    if not quantity.unit and seen and spans_a_decade(seen):
        logarithmic(axes, wide=False)


def _numbers(rows: Sequence[Row], drawn: Sequence[Quantity]) -> Numbers:
    heads = ("Strategy", *(f"{q.title} {when}" for q in drawn for when in ("before", "after")))
    return Numbers(heads, tuple(_told(row, drawn) for row in rows))


def _told(row: Row, drawn: Sequence[Quantity]) -> tuple[str, ...]:
    ends = [probe_ends(row, quantity.name.removeprefix("probe.")) for quantity in drawn]
    return (row.label, *(number(interval(column.tolist()).mean) for pair in ends for column in pair.T))
