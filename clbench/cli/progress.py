"""Progress of many runs with the time left, and what a tracker logs, read from the records they leave behind."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from clbench import record
from clbench.errors import ClbenchError
from clbench.executor import Executor
from clbench.record import Record, Status
from clbench.run import Run
from clbench.tracker import Tracker

SECONDS = 1.0  # between two looks at the disk


class Watch:
    """Counts the experiences that a study's runs have learnt; wraps an executor's ``submit``."""

    def __init__(self, executor: Executor, console: Console, title: str, runs: int, tracker: Tracker) -> None:
        self._executor, self._tracker = executor, tracker
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("runs, elapsed"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=False),
            console=console,
        )
        self._task = self._bar.add_task(title, total=runs)
        self._done, self._open, self._lock = 0, set[Path](), threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        self._bar.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._tracker.stop()
        self._bar.stop()

    def submit(self, run: Run) -> Future[Record]:
        """Hand the run on and watch it."""
        run = self._executor.placed(run)
        with self._lock:
            self._open.add(run.folder)
        self._tracker.add(run.folder)
        future = self._executor.submit(run)
        future.add_done_callback(lambda _: self._finished(run.folder))
        return future

    def _finished(self, folder: Path) -> None:
        with self._lock:
            self._open.discard(folder)
            self._done += 1
        self._show()

    def _look(self) -> None:
        while not self._stop.wait(SECONDS):
            self._show()
            self._tracker.look()

    def _show(self) -> None:
        with self._lock:
            done, folders = self._done, list(self._open)
        self._bar.update(self._task, completed=done + sum(_share(folder) for folder in folders))


def _share(folder: Path) -> float:
    with contextlib.suppress(ClbenchError, OSError):
        found = record.read(folder)
        if found is not None and found.status is Status.RUNNING:
            return found.learnt / len(found.experiences)
    return 0.0


@contextlib.contextmanager
def steps(title: str) -> Iterator[Callable[[int, int], None]]:
    """A bar for one long loop; the block is given a function of (steps done, steps in all)."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("steps, elapsed"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=False),
    )
    with Progress(*columns, console=Console()) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
