"""The accuracy matrix in the terminal, coloured by how much is still known."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from rich import box
from rich.color import Color
from rich.style import Style
from rich.table import Table
from rich.text import Text

from clbench.metrics import Array, accuracy_matrix, initial_accuracies
from clbench.record import Record

LIMIT = 15  # experiences shown, so that the matrix keeps within 100 columns
RGB: TypeAlias = tuple[int, int, int]
PALE, DEEP = (236, 243, 250), (8, 64, 129)  # backgrounds of 0 and 100 percent
BLACK, WHITE = (0, 0, 0), (255, 255, 255)


def matrix(records: Sequence[Record]) -> Table:
    """Mean of the accuracy matrices of runs of equal length; of a long stream, rows and columns evenly spaced."""
    mean = mean_matrix(records)
    places = shown(len(mean))
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 0), show_edge=False, pad_edge=False)
    table.add_column("after", justify="right", style="dim", header_style="dim")
    for j in places:
        table.add_column(f"{j + 1} ", justify="right", header_style="dim", min_width=6)
    if records[0].setting.in_words:
        before = np.stack([initial_accuracies(record) for record in records]).mean(0)
        table.add_row("0  ", *(_cell(before[j]) for j in places))
    for t in places:
        table.add_row(f"{t + 1}  ", *(_cell(mean[t, j]) for j in places))
    return table


def mean_matrix(records: Sequence[Record]) -> Array:
    """R (T, T), percent, mean over the runs; NaN = not measured in any."""
    stack = np.stack([accuracy_matrix(record) for record in records])
    with warnings.catch_warnings():
        # Above the diagonal nothing is measured: there numpy would warn of means of nothing, which NaN says already.
        warnings.simplefilter("ignore", RuntimeWarning)
        mean: Array = np.nanmean(stack, axis=0)
    return mean


def shown(size: int) -> list[int]:
    """Which of so many places are shown: at most `LIMIT`, evenly spaced, the first and the last among them."""
    return sorted({round(i) for i in np.linspace(0, size - 1, min(size, LIMIT))})


def colours(percent: float) -> tuple[RGB, RGB]:
    """Background of an accuracy, and black or white, whichever is easier to read on it (contrast of 4.5 or more)."""
    share = min(max(percent / 100, 0), 1)
    red, green, blue = (round(pale + share * (deep - pale)) for pale, deep in zip(PALE, DEEP, strict=True))
    back = (red, green, blue)
    # Where black and white are equally far: (1 + 0.05) / (y + 0.05) = (y + 0.05) / 0.05
    return back, BLACK if _luminance(back) > math.sqrt(1.05 * 0.05) - 0.05 else WHITE


def _luminance(colour: RGB) -> float:
    """Relative luminance of an sRGB colour, in 0..1: WCAG 2.2, "relative luminance"."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (part / 255 for part in colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _cell(percent: float) -> Text:
    if math.isnan(percent):
        return Text("")
    # The terminal's own black and white depend on its theme, and may be too near to the background.
    back, front = (Color.from_rgb(*colour) for colour in colours(percent))
    return Text(f"{percent:5.1f} ", style=Style(color=front, bgcolor=back))
