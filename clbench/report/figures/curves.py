"""Accuracy over experiences: one curve per row, with the 95 % t-interval over seeds as a band."""

from __future__ import annotations

import math

import matplotlib
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from clbench.metrics import Interval
from clbench.report import wording
from clbench.report.board import number
from clbench.report.figures.look import (
    STYLE,
    Drawing,
    Drawn,
    Numbers,
    Scene,
    Skipped,
    Style,
    add_legend,
    legend_height,
    new_figure,
)
from clbench.report.figures.measured import bands, curves
from clbench.report.heat import shown as spaced

MARKED = 20  # moments up to which each has a marker
CROWDED = 8  # rows from which bands are paler
Moments = list[tuple[int, Interval]]


def accuracy_curves(shown: Scene) -> Drawn:
    """Accuracy on all experiences so far after each of them; moments that were not measured are left out.

    Returns:
        A reason where fewer than two moments were measured.
    """
    means = {row.label: _measured(bands(curves(row))) for row in shown.rows}
    moments = sorted({moment for values in means.values() for moment, _ in values})
    if len(moments) < 2:
        return Skipped(f"accuracy was measured after {wording.count(len(moments), 'experience')} only")
    with matplotlib.rc_context(STYLE):
        figure = new_figure(6.4, max(3.4, legend_height(shown.rows)))
        axes = figure.subplots()
        for row in shown.rows:
            marked, paler = len(moments) <= MARKED, len(shown.rows) > CROWDED
            _draw(axes, row.label, shown.styles[row.label], means[row.label], marked, paler)
        axes.set_xlabel("Experiences learnt")
        axes.set_ylabel("Accuracy on experiences so far (%)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, -2), min(high, 102))
        add_legend(figure, shown, lines=True)
    return Drawing(figure, _caption(shown), _numbers(means, moments))


def _draw(axes: Axes, label: str, style: Style, values: Moments, marked: bool, paler: bool) -> None:
    """One row's band and curve."""
    places = [moment for moment, _ in values]
    low, high = [value.low for _, value in values], [value.high for _, value in values]
    axes.fill_between(places, low, high, color=style.colour, alpha=0.07 if paler else 0.18, linewidth=0)
    means = [value.mean for _, value in values]
    marker = style.marker if marked else ""
    axes.plot(places, means, style.line, color=style.colour, marker=marker, markersize=4, label=label)


def _measured(values: list[Interval]) -> Moments:
    return [(t + 1, value) for t, value in enumerate(values) if value.n]


def _caption(shown: Scene) -> str:
    spread = any(len(row.records) > 1 for row in shown.rows)
    band = "; bands are 95 % t-intervals over seeds, where there are two or more" if spread else ""
    return f"Accuracy on all experiences learnt so far, mean over seeds{band}."


def _numbers(means: dict[str, Moments], moments: list[int]) -> Numbers:
    told = [moments[i] for i in spaced(len(moments))]
    rows = []
    for label, values in means.items():
        known = dict(values)
        rows.append((label, *(_cell(known.get(moment)) for moment in told)))
    return Numbers(("After experience", *map(str, told)), tuple(rows))


def _cell(value: Interval | None) -> str:
    if value is None:
        return number(math.nan)
    half = "" if math.isnan(value.high) else f" ± {number(value.high - value.mean)}"
    return number(value.mean) + half
