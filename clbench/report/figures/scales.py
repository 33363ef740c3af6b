"""Logarithmic axes: when they are needed, and how they are numbered."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

DECADE = 10  # ratio of the largest to the smallest value from which their axis is logarithmic
MANY = 3  # decades from which powers of ten are numbers enough


def spans_a_decade(values: Sequence[float]) -> bool:
    """Whether positive values are so far apart that a linear axis would squeeze the small ones together."""
    return min(values) > 0 and max(values) > DECADE * min(values)


def logarithmic(axes: Axes, *, wide: bool) -> None:
    """Make the x axis logarithmic, with plain numbers.

    Args:
        axes: with all that is drawn.
        wide: whether there is room for more numbers than powers of ten, where those are few.
    """
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    few = wide and math.log10(high / low) < MANY
    axes.xaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5) if few else (1,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
