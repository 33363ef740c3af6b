"""The accuracy matrix in the terminal, coloured by how much is still known."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import numpy as np
from rich import box
from rich.color import Color
from rich.style import Style
from rich.table import Table
from rich.text import Text

from clbench.metrics import Array, accuracy_matrix, initial_accuracies
from clbench.record import Record

LIMIT = 15  # experiences shown, so that the matrix keeps within 100 columns
PALE, DEEP = (236, 243, 250), (8, 64, 129)  # backgrounds of 0 and 100 percent


def matrix(records: Sequence[Record]) -> Table:
    """Mean of the accuracy matrices of runs of equal length; of a long stream, rows and columns evenly spaced."""
    mean = mean_matrix(records)
    shown = _shown(len(mean))
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 0), show_edge=False, pad_edge=False)
    table.add_column("after", justify="right", style="dim", header_style="dim")
    for j in shown:
        table.add_column(f"{j + 1} ", justify="right", header_style="dim", min_width=6)
    if records[0].setting.in_words:
        before = np.stack([initial_accuracies(record) for record in records]).mean(0)
        table.add_row("0  ", *(_cell(before[j]) for j in shown))
    for t in shown:
        table.add_row(f"{t + 1}  ", *(_cell(mean[t, j]) for j in shown))
    return table


def mean_matrix(records: Sequence[Record]) -> Array:
    """R (T, T), percent, mean over the runs; NaN = not measured in any."""
    stack = np.stack([accuracy_matrix(record) for record in records])
    with warnings.catch_warnings():
        # Above the diagonal nothing is measured: there numpy would warn of means of nothing, which NaN says already.
        warnings.simplefilter("ignore", RuntimeWarning)
        mean: Array = np.nanmean(stack, axis=0)
    return mean


def _shown(size: int) -> list[int]:
    return sorted({round(i) for i in np.linspace(0, size - 1, min(size, LIMIT))})


def _cell(percent: float) -> Text:
    if math.isnan(percent):
        return Text("")
    share = min(max(percent / 100, 0), 1)
    red, green, blue = (round(pale + share * (deep - pale)) for pale, deep in zip(PALE, DEEP, strict=True))
    # The terminal's own black and white depend on its theme, and may be too near to the background.
    front = Color.from_rgb(0, 0, 0) if share < 0.45 else Color.from_rgb(255, 255, 255)
    style = Style(color=front, bgcolor=Color.from_rgb(red, green, blue))
    return Text(f"{percent:5.1f} ", style=style)
