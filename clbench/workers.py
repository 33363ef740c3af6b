"""Processes that carry out runs, and executors that keep such processes."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from concurrent import futures
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing import connection
from multiprocessing.connection import Connection
from typing import Any

import torch

from clbench.executor import Executor
from clbench.record import Record
from clbench.run import Run


class EndedError(Exception):
    """A worker is no more; the argument is its exit status, below zero the signal that ended it."""


class Worker:
    """A process that carries out one run after another; it ends with the one that started it, however that ends.

    Args:
        execute: from a run to its record; must be picklable, and keeps what it remembers from run to run.
        threads: of torch.
        variables: of the process's environment, set before torch looks for GPUs.
    """

    def __init__(self, execute: Callable[[Run], Record], threads: int, variables: Mapping[str, str]) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.line, there = spawn.Pipe()
        self.process = spawn.Process(target=_work, args=(there, execute, threads, variables), daemon=True)
        self.process.start()
        there.close()

    def begin(self, run: Run) -> None:
        """Have it carry out a run.

        Raises:
            EndedError: the process has ended.
        """
        try:
            self.line.send(run)
        except ConnectionError:
            raise self._ended() from None

    def answer(self) -> Record:
        """Wait for the record of the run that was begun.

        Raises:
            EndedError: the process has ended.
            Exception: what the run raised.
        """
        try:
            answer: Record | Exception = self.line.recv()
        except (EOFError, ConnectionError):
            raise self._ended() from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _ended(self) -> EndedError:
        self.process.join()
        return EndedError(self.process.exitcode)


def end(workers: Iterable[Worker]) -> None:
    """End processes at once and wait until they have."""
    workers = list(workers)
    for worker in workers:
        worker.process.kill()
    for worker in workers:
        worker.process.join()


def visible_gpu(worker: int, gpus: int, visible: str) -> dict[str, str]:
    """The environment in which a worker sees one GPU, the workers being dealt evenly.

    Args:
        worker: its number, from 0.
        gpus: how many there are to share.
        visible: ``CUDA_VISIBLE_DEVICES`` as it was; empty where it was not set.
    """
    names = visible.split(",")[:gpus] if visible else [str(number) for number in range(gpus)]
    return {"CUDA_VISIBLE_DEVICES": names[worker % len(names)].strip()}


class WorkerExecutor(Executor):
    """An executor whose runs are carried out by workers, of which so many threads of this process take care."""

    def __init__(self, config: Any, jobs: int, device: str, side_by_side: int) -> None:
        super().__init__(config, jobs, device)
        self.workers = side_by_side
        self._queue = ThreadPoolExecutor(side_by_side)
        self._futures: list[Future[Record]] = []

    def submit(self, run: Run) -> Future[Record]:
        """Queue the run."""
        self._futures.append(self._queue.submit(self._carry_out, self.placed(run)))
        return self._futures[-1]

    def stop(self) -> None:
        """End the workers; a run in progress goes on from its last experience the next time."""
        self._queue.shutdown(wait=False, cancel_futures=True)
        while not all(future.done() for future in self._futures):
            self._end()  # again and again: some may be starting at this moment
            futures.wait(self._futures, 0.1)
        self._end()

    @abstractmethod
    def _carry_out(self, run: Run) -> Record:
        """Have the run's record made, starting what workers it needs."""

    @abstractmethod
    def _end(self) -> None:
        """End all workers."""


def _work(line: Connection, execute: Callable[[Run], Record], threads: int, variables: Mapping[str, str]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    os.environ |= variables
    torch.set_num_threads(threads)
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            _tell(line, _outcome(execute, line.recv()))
            torch.cuda.empty_cache()  # other workers on the GPU may need what is kept for another run


def _outcome(execute: Callable[[Run], Record], run: Run) -> Record | Exception:
    try:
        return execute(run)
    except Exception as error:
        return error


def _tell(line: Connection, outcome: Record | Exception) -> None:
    try:
        line.send(outcome)
    except OSError:
        raise
    except Exception:  # it cannot be pickled
        line.send(RuntimeError(repr(outcome)))


def _end_with(parent: int) -> None:
    connection.wait([parent])
    os._exit(1)
