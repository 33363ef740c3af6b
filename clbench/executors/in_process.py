"""One run after another in this process, for debugging."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass

from clbench import engine
from clbench.executor import Executor, executors
from clbench.record import Record
from clbench.run import Run


@dataclass
class InProcessConfig:
    """Nothing to choose."""


@executors.register(InProcessConfig)
class InProcess(Executor):
    """Carries a run out when it is submitted, so its futures are always done."""

    def submit(self, run: Run) -> Future[Record]:
        """Carry the run out, here and now."""
        future: Future[Record] = Future()
        try:
            future.set_result(engine.execute(run))
        except Exception as error:
            future.set_exception(error)
        return future
