"""Progress of reading many records."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextlib.contextmanager
def reading() -> Iterator[Callable[[int, int], None]]:
    """Shows how many of how many records have been read, on the error stream and only to people."""
    shown = Progress(
        TextColumn("reading runs"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not Console(stderr=True).is_terminal,
    )
    task = shown.add_task("", total=None, visible=False)
    with shown:
        yield lambda done, total: shown.update(task, completed=done, total=total, visible=True)
