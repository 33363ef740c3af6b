"""Several runs side by side, each in a process of its own."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass

from clbench import engine
from clbench.environment import cores, threads_each
from clbench.executor import Executor, end_with_parent, executors
from clbench.record import Record
from clbench.run import Run
from clbench.space import require


@dataclass
class ProcessesConfig:
    """How many, and how wide."""

    workers: int | None = None  # processes; null: one per core, or one where the device is a GPU
    threads: int | None = None  # torch threads in each; null: OMP_NUM_THREADS, or the cores divided by the workers

    def __post_init__(self) -> None:
        require(self.workers is None or self.workers >= 1, "executor.workers", ">= 1 or null", self.workers)
        require(self.threads is None or self.threads >= 1, "executor.threads", ">= 1 or null", self.threads)


@executors.register(ProcessesConfig)
class Processes(Executor):
    """A pool of worker processes, started when they are needed; they end with this process, however it ends."""

    config: ProcessesConfig

    def __init__(self, config: ProcessesConfig, jobs: int, device: str) -> None:
        super().__init__(config, jobs, device)
        usual = 1 if device == "cuda" else cores()
        self.workers = max(1, min(config.workers or usual, jobs))
        self._futures: list[Future[Record]] = []
        threads = config.threads or threads_each(self.workers)
        self._pool = ProcessPoolExecutor(
            self.workers, multiprocessing.get_context("spawn"), initializer=_set_up, initargs=(threads,)
        )

    def submit(self, run: Run) -> Future[Record]:
        """Queue the run."""
        future = self._pool.submit(engine.execute, run)
        self._futures.append(future)
        return future

    def stop(self) -> None:
        """End the workers; a run in progress goes on from its last experience the next time."""
        if not all(future.done() for future in self._futures):
            for worker in list((self._pool._processes or {}).values()):
                worker.terminate()
        self._pool.shutdown(wait=True, cancel_futures=True)


def _set_up(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
    end_with_parent()
