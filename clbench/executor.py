"""Executors: where the runs of a protocol are carried out. A protocol never knows which one it has."""

from __future__ import annotations

from abc import ABC, abstractmethod
from concurrent.futures import Future
from typing import Any

from clbench.record import Record
from clbench.registry import Registry
from clbench.run import Run


class Executor(ABC):
    """Takes runs, gives futures of their records; a context manager that stops the workers at its end.

    Args:
        config: the executor's own config.
        jobs: at most so many runs will be waiting at once; more workers than that would idle.
        device: what the runs compute on.

    Attributes:
        workers: runs that go on side by side.
    """

    workers: int = 1

    def __init__(self, config: Any, jobs: int, device: str) -> None:
        self.config, self.jobs, self.device = config, jobs, device

    def placed(self, run: Run) -> Run:
        """The run as it will be carried out, where that decides its bits."""
        return run

    @abstractmethod
    def submit(self, run: Run) -> Future[Record]:
        """Begin the run, now or later."""

    def stop(self) -> None:  # noqa: B027 - an executor without workers has nothing to stop
        """Let go of the workers; what has not begun never will."""

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


executors: Registry[Executor] = Registry("executor", "clbench.executors")
