"""Trackers: live logs of runs for other people's viewers.

A log is a pure function of records. The process that hands runs out reads the records which runs leave behind and logs
what is new in them; the processes that learn know nothing of it. So a tracked run has the identity, the random numbers,
the memory and the record of one that is not tracked, no failing tracker can end it, and a study that was not tracked is
logged in full when its command is given again with a tracker. (``executor=in_process`` learns in this process, so there
peak memory includes the tracker's package.)
`clbench.moments` says what is logged, under which names.
"""

from __future__ import annotations

import contextlib
import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from clbench import record
from clbench.errors import ClbenchError
from clbench.moments import at, final
from clbench.record import Record, Status
from clbench.registry import Registry


class Log(ABC):
    """The log of one run."""

    @abstractmethod
    def write(self, moment: int, values: Mapping[str, float]) -> None:
        """Log what is known after so many experiences, so that a viewer sees it now."""

    @abstractmethod
    def finish(self, moment: int, values: Mapping[str, float], status: str) -> None:
        """Log what the whole run came to."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the log; it may be opened again."""


class Tracker(ABC):
    """Told which runs there are, and asked to look at their records every now and then.

    Args:
        config: the tracker's own config.
        output: where runs are kept.
    """

    shown_by: str = ""
    """The command that shows what was logged."""

    def __init__(self, config: Any, output: Path) -> None:
        self.config, self.output = config, output

    @abstractmethod
    def add(self, folder: Path) -> None:
        """Log the run that is kept there, as soon as it has a record."""

    @abstractmethod
    def look(self) -> None:
        """Log what is new in the records."""

    @abstractmethod
    def stop(self) -> None:
        """Log what is new, and let go of all logs."""


trackers: Registry[Tracker] = Registry("tracker", "clbench.trackers")
"""Where runs are logged while they go on: one file a tracker."""


@dataclass
class _Open:
    """A log that is being written: by this process alone, as its lock says."""

    log: Log
    lock: FileLock
    moment: int  # that is logged next


class LogTracker(Tracker):
    """A log per run, each moment once, however often the command is killed and given again.

    Args:
        config: its ``folder`` is where logs lie; a folder of the tracker's name below ``output`` where it is None.
        output: where runs are kept.

    Raises:
        ClbenchError: the package that it needs is missing.
    """

    def __init__(self, config: Any, output: Path) -> None:
        super().__init__(config, output)
        self.name = trackers.name_of(config)
        self.folder: Path = config.folder or output / self.name
        self._folders: dict[Path, _Open | None] = {}
        self._failed = False

    @abstractmethod
    def open(self, found: Record, moment: int) -> Log:
        """The log of a run, in which everything before this moment stands already."""

    def add(self, folder: Path) -> None:
        """Log the run that is kept there, as soon as it has a record."""
        self._folders[folder] = None

    def look(self) -> None:
        """Log what is new. A tracker that fails is left alone from then on; one line says so."""
        if self._failed:
            return
        try:
            for folder in list(self._folders):
                self._follow(folder)
        except Exception as error:
            self._fail(error)

    def stop(self) -> None:
        """Log what is new, and let go of all logs."""
        self.look()
        for one in self._folders.values():
            if one is not None:
                try:
                    one.log.close()
                except Exception as error:
                    self._fail(error)
                one.lock.release()
        self._folders = {}

    def _fail(self, error: Exception) -> None:
        if not self._failed:
            self._failed = True
            print(
                f"clbench: tracker {self.name} failed ({type(error).__name__}: {error}) and is left alone; the runs go "
                "on, and the same command given again logs what is missing",
                file=sys.stderr,
            )

    def _follow(self, folder: Path) -> None:
        found = _record(folder)
        if found is None:
            return
        one = self._folders[folder] or self._begin(folder, found)
        if one is None:
            return
        ended = found.status is not Status.RUNNING
        # The last moment waits for the end: both are logged together, or again together.
        last = found.learnt if ended else min(found.learnt, len(found.experiences) - 1)
        news = [(moment, values) for moment in range(one.moment, last + 1) if (values := at(found, moment))]
        for moment, values in news:
            one.log.write(moment, values)
        one.moment = last + 1
        if ended:
            one.log.finish(last, final(found), found.status.value)
            one.log.close()
        if news or ended:
            self._mark(found, one.moment, ended)
        if ended:
            one.lock.release()
            del self._folders[folder]

    def _begin(self, folder: Path, found: Record) -> _Open | None:
        mark = self._marked(found)
        mark.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(mark.with_suffix(".lock"), timeout=0, thread_local=False)
        try:
            lock.acquire()
        except Timeout:  # another process logs it
            return None
        told = json.loads(mark.read_text(encoding="utf-8")) if mark.exists() else {"moment": 0, "ended": False}
        if told["ended"]:
            lock.release()
            del self._folders[folder]
            return None
        self._folders[folder] = one = _Open(self.open(found, told["moment"]), lock, told["moment"])
        return one

    def _mark(self, found: Record, moment: int, ended: bool) -> None:
        text = json.dumps({"moment": moment, "ended": ended})
        record.write_atomically(self._marked(found), text.encode())

    def _marked(self, found: Record) -> Path:
        return self.folder / "logged" / f"{found.run}.json"


def _record(folder: Path) -> Record | None:
    with contextlib.suppress(ClbenchError, OSError):
        return record.read(folder)
    return None
