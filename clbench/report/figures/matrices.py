"""Accuracy matrices as heat maps: what is still known of each experience after each, one map per row."""

from __future__ import annotations

import math

import matplotlib
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from clbench.metrics import Array
from clbench.report import wording
from clbench.report.board import number
from clbench.report.figures.look import STYLE, Drawing, Drawn, Numbers, Scene, Skipped, broken_label, new_figure
from clbench.report.heat import DEEP, PALE, colours, mean_matrix

FIT = 12  # maps in one figure
ACROSS = 4
WRITTEN = 8  # experiences up to which cells hold their numbers


def accuracy_matrices(shown: Scene) -> Drawn:
    """Mean over seeds of each row's accuracy matrix; of many rows those that lead the board.

    Returns:
        A reason where there is one experience only.
    """
    if shown.rows[0].entries[0].experiences < 2:
        return Skipped("a matrix of one experience is one number, which the table has")
    drawn = shown.rows[:FIT]
    maps = {row.label: mean_matrix(row.whole()) for row in drawn}
    across = min(len(drawn), ACROSS)
    down = math.ceil(len(drawn) / across)
    with matplotlib.rc_context(STYLE | {"axes.grid": False}):
        figure = new_figure(max(3.2, 0.9 + 1.55 * across), 0.7 + 1.85 * down)
        panels = figure.subplots(down, across, squeeze=False).ravel()
        for axes in panels[len(drawn) :]:
            axes.remove()
        used = panels[: len(drawn)]
        image = [_map(axes, label, matrix) for axes, (label, matrix) in zip(used, maps.items(), strict=True)][-1]
        figure.colorbar(image, ax=list(used), label="Accuracy (%)", shrink=min(1.0, 1.8 / down), aspect=16)
        figure.supxlabel("Experience tested", fontsize=8)
        figure.supylabel("Experiences learnt", fontsize=8)
    left = len(shown.rows) - len(drawn)
    rest = f"The first {len(drawn)} rows of the table; {wording.count(left, 'other')} left out. " if left else ""
    return Drawing(figure, f"{rest}Accuracy on each experience after each, mean over seeds.", _numbers(maps))


def _map(axes: Axes, label: str, matrix: Array) -> AxesImage:
    size = len(matrix)
    ramp = LinearSegmentedColormap.from_list("known", [[c / 255 for c in end] for end in (PALE, DEEP)])
    extent = (0.5, size + 0.5, size + 0.5, 0.5)
    image = axes.imshow(matrix, cmap=ramp, vmin=0, vmax=100, extent=extent, interpolation="nearest", aspect="equal")
    axes.set_title(broken_label(label), fontsize=6.5)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=2))
        axis.set_tick_params(labelsize=6, length=2)
    for t, row in enumerate(matrix if size <= WRITTEN else []):
        for j, percent in enumerate(row):
            if not math.isnan(percent):
                front = [c / 255 for c in colours(percent)[1]]
                axes.text(j + 1, t + 1, f"{percent:.0f}", ha="center", va="center", fontsize=5, color=front)
    return image


def _numbers(maps: dict[str, Array]) -> Numbers:
    """The last row of each map; the page has whole matrices as tables."""
    size = max(map(len, maps.values()))
    rows = tuple((label, *map(number, matrix[-1])) for label, matrix in maps.items())
    return Numbers(("After the last, on", *(str(j + 1) for j in range(size))), rows)
