"""Two quantities against each other: forgetting and plasticity, cost and accuracy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from clbench.metrics import METRICS, Quantity
from clbench.record import Setting
from clbench.report.board import number
from clbench.report.figures.labels import place
from clbench.report.figures.look import (
    BOUND,
    PAPER,
    STYLE,
    Drawing,
    Drawn,
    Numbers,
    Scene,
    Skipped,
    add_legend,
    legend_height,
    new_figure,
)
from clbench.report.figures.scales import logarithmic, spans_a_decade
from clbench.report.grouping import Row
from clbench.report.quantities import COSTS

FORGETTING = {Setting.INSTRUCTION: "bwt_trace"}
"""What a setting's papers report for forgetting, where it is not `forgetting_max_prev`."""
NAMED = 10  # rows up to which points bear their names
SHORT = 22  # characters up to which a name fits beside its point


@dataclass(frozen=True)
class Point:
    """A row's mean, and its seeds.

    Attributes:
        row: whose it is.
        x, y: means over the seeds where both are defined.
        seeds: (x, y) of each of them.
    """

    row: Row
    x: float
    y: float
    seeds: tuple[tuple[float, float], ...]


def forgetting_plasticity(shown: Scene) -> Drawn:
    """Learning accuracy against forgetting: how much is learnt, how much of it stays.

    Returns:
        A reason where no run has both, as in a stream of one experience.
    """
    setting = shown.rows[0].records[0].setting
    across = METRICS[FORGETTING.get(setting, "forgetting_max_prev")]
    up = METRICS["learning_accuracy"]
    points = _points(shown.rows, across, up)
    if not points:
        return Skipped("nothing can be forgotten in a stream of one experience")
    with matplotlib.rc_context(STYLE):
        figure, axes = _axes(shown, points)
        axes.set_xlabel(f"{across.label} ({across.unit})")
        axes.set_ylabel(f"{up.label} ({up.unit})")
        _names(shown, points, axes)
    caption = f"{up.title} against {across.title} ({across.name}): {_marks(points)}."
    return Drawing(figure, caption, _numbers(points, across, up))


def cost_accuracy(shown: Scene) -> Drawn:
    """The table's first quantity against the seconds spent learning, with the Pareto front of the contestants.

    Returns:
        A reason where no run has both.
    """
    across, up = COSTS["learn_seconds"], shown.quantities[0]
    points = _points(shown.rows, across, up)
    if not points:
        return Skipped(f"no run has both a learning time and a {up.title}")
    ranked = [point for point in points if point.row.label not in shown.bounds]
    best = [ranked[i] for i in front([p.x for p in ranked], [p.y if up.higher_is_better else -p.y for p in ranked])]
    with matplotlib.rc_context(STYLE):
        figure, axes = _axes(shown, points)
        if spans_a_decade([seed[0] for point in points for seed in point.seeds]):
            logarithmic(axes, wide=True)
        axes.set_xlabel("Learning time (s) ↓")
        axes.set_ylabel(f"{up.label} ({up.unit})" if up.unit else up.label)
        if len(best) > 1:
            x, y = [p.x for p in best], [p.y for p in best]
            axes.plot(x, y, drawstyle="steps-post", color=BOUND, linewidth=0.9, zorder=1, label="front")
        _names(shown, points, axes)
    line = " (grey line)" if len(best) > 1 else ""
    note = f" Pareto front of what is ranked{line}: {'; '.join(p.row.label for p in best)}." if best else ""
    return Drawing(figure, f"{up.title} against learning time: {_marks(points)}.{note}", _numbers(points, across, up))


def front(costs: Sequence[float], worths: Sequence[float]) -> list[int]:
    """Which points no other one beats, cheapest first: beaten is, where another is no worse in both and better in one.

    Args:
        costs: the lower the better, (n,).
        worths: the higher the better, (n,).
    """
    best: list[int] = []
    for i in sorted(range(len(costs)), key=lambda i: (costs[i], -worths[i])):
        if not best or worths[i] > worths[best[-1]] or (costs[i], worths[i]) == (costs[best[-1]], worths[best[-1]]):
            best.append(i)
    return best


def _points(rows: Sequence[Row], across: Quantity, up: Quantity) -> list[Point]:
    points = []
    for row in rows:
        pairs = zip(row.values[across.name], row.values[up.name], strict=True)
        seeds = tuple(pair for pair in pairs if not any(map(math.isnan, pair)))
        if seeds:
            x, y = (sum(values) / len(seeds) for values in zip(*seeds, strict=True))
            points.append(Point(row, x, y, seeds))
    return points


def _axes(shown: Scene, points: Sequence[Point]) -> tuple[Figure, Axes]:
    named = _named(points)
    figure = new_figure(4.6 if named else 6.4, 3.4 if named else max(3.4, legend_height(shown.rows)))
    axes = figure.subplots()
    for point in points:
        style = shown.styles[point.row.label]
        x, y = zip(*point.seeds, strict=True)
        if len(point.seeds) > 1:
            axes.plot(x, y, ".", color=style.colour, alpha=0.6, markersize=4.5, markeredgewidth=0, zorder=2)
        look: dict[str, Any] = {
            "color": style.colour,
            "marker": style.marker,
            "markeredgecolor": PAPER,
            "markeredgewidth": 0.6,
        }
        axes.plot([point.x], [point.y], linestyle="", markersize=7, zorder=3, label=point.row.label, **look)
    axes.margins(0.12)
    return figure, axes


def _named(points: Sequence[Point]) -> bool:
    return len(points) <= NAMED and all(len(point.row.label) <= SHORT for point in points)


def _names(shown: Scene, points: Sequence[Point], axes: Axes) -> None:
    """Names beside the points where there is room for them, else beside the axes."""
    if _named(points):
        place(axes, [(p.x, p.y) for p in points], [p.row.label for p in points])
    else:
        figure = axes.get_figure(root=True)
        assert figure is not None
        add_legend(figure, shown, lines=False)


def _marks(points: Sequence[Point]) -> str:
    several = any(len(point.seeds) > 1 for point in points)
    return "small dots are seeds, large marks their means" if several else "one seed each"


def _numbers(points: Sequence[Point], across: Quantity, up: Quantity) -> Numbers:
    rows = tuple((point.row.label, number(point.x), number(point.y)) for point in points)
    return Numbers(("Strategy", across.label, up.label), rows)
