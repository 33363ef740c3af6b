"""Names beside points, put where they hide as little as can be."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

NEAR, FAR = 6, 14  # points between a mark and its name
MARK = 5.0  # points around a mark's middle that names should leave free
SIDES = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
ACROSS = {1: "left", 0: "center", -1: "right"}
UP = {1: "bottom", 0: "center", -1: "top"}


def place(axes: Axes, points: Sequence[tuple[float, float]], names: Sequence[str]) -> list[Annotation]:
    """Write each name at that side of its point where it covers the least of marks, other names and the margin.

    Greedy, in the order given; ends with what overlaps least, which need not be nothing.

    Args:
        axes: of a figure with an Agg canvas, drawn completely but for the names.
        points: in data coordinates.
        names: one per point.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    assert isinstance(figure.canvas, FigureCanvasAgg)
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    reach = MARK * figure.dpi / 72
    middles = axes.transData.transform(points)
    marks = [Bbox.from_extents(x - reach, y - reach, x + reach, y + reach) for x, y in middles]
    inside, taken, made = axes.get_window_extent(renderer), list(marks), []
    for point, name in zip(points, names, strict=True):
        best: tuple[float, Annotation, Bbox] | None = None
        for distance in (NEAR, FAR):
            for side in SIDES:
                written = _written(axes, point, name, side, distance)
                box = written.get_window_extent(renderer)
                covered = sum(_overlap(box, other) for other in taken) + box.width * box.height - _overlap(box, inside)
                if best is None or covered < best[0] - 1e-6:
                    if best is not None:
                        best[1].remove()
                    best = (covered, written, box)
                else:
                    written.remove()
        assert best is not None
        made.append(best[1])
        taken.append(best[2])
    return made


def _written(axes: Axes, point: tuple[float, float], name: str, side: tuple[int, int], distance: float) -> Annotation:
    across, up = side
    reach = distance if 0 in side else 0.75 * distance
    written = axes.annotate(
        name,
        point,
        xytext=(across * reach, up * reach),
        textcoords="offset points",
        ha=ACROSS[across],
        va=UP[up],
        fontsize=7,
        zorder=4,
    )
    written.set_in_layout(False)  # or every name would push the axes about
    return written


def _overlap(one: Bbox, other: Bbox) -> float:
    """Area that two boxes share, in square pixels."""
    shared = Bbox.intersection(one, other)
    return 0.0 if shared is None else float(shared.width * shared.height)
