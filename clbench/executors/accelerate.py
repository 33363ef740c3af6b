"""One run at a time, by several processes that share its batches, each on a device of its own."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import tempfile
from collections.abc import Iterator
from concurrent import futures
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

import torch

from clbench import engine
from clbench.environment import threads_each
from clbench.errors import ConfigError
from clbench.executor import Executor, end_with_parent, executors
from clbench.parallel import Peers, Sharding, Team
from clbench.record import Record
from clbench.run import Run
from clbench.space import require


@dataclass
class AccelerateConfig:
    """How many devices, and what each holds."""

    devices: int | None = None  # that share each run; null: every GPU, or one process on the CPU
    sharding: Sharding = Sharding.NONE  # what a device holds while it trains
    threads: int | None = None  # torch threads in each; null: OMP_NUM_THREADS, or the cores divided by the devices

    def __post_init__(self) -> None:
        require(self.devices is None or self.devices >= 1, "executor.devices", ">= 1 or null", self.devices)
        require(self.threads is None or self.threads >= 1, "executor.threads", ">= 1 or null", self.threads)


class Worker(NamedTuple):
    """One of the processes, and the line to it."""

    process: BaseProcess
    line: Connection


@executors.register(AccelerateConfig)
class Accelerate(Executor):
    """Processes that are started when they are needed; they end with this one, however it ends, and all together."""

    config: AccelerateConfig

    def __init__(self, config: AccelerateConfig, jobs: int, device: str) -> None:
        super().__init__(config, jobs, device)
        there = torch.cuda.device_count() if device == "cuda" else None
        self.devices = config.devices or there or 1
        if there is not None and self.devices > there:
            raise ConfigError(f"executor.devices={self.devices}, but torch finds {there} GPUs here; lower it")
        if self.devices == 1 and config.sharding is not Sharding.NONE:
            raise ConfigError("one device has nobody to share with; add executor.devices=2 or leave sharding out")
        self._team: list[Worker] = []
        self._queue = ThreadPoolExecutor(1)
        self._futures: list[Future[Record]] = []

    def placed(self, run: Run) -> Run:
        """The run on so many devices, which decide how sums are rounded."""
        return replace(run, devices=self.devices, sharding=self.config.sharding)

    def submit(self, run: Run) -> Future[Record]:
        """Queue the run."""
        self._futures.append(self._queue.submit(self._carry_out, self.placed(run)))
        return self._futures[-1]

    def stop(self) -> None:
        """End the processes; a run in progress goes on from its last experience the next time."""
        self._queue.shutdown(wait=False, cancel_futures=True)
        while not all(future.done() for future in self._futures):
            self._end()  # again and again: some may be starting at this moment
            futures.wait(self._futures, 0.1)
        self._end()

    def _carry_out(self, run: Run) -> Record:
        if not self._team:
            self._start()
        try:
            for worker in self._team:
                worker.line.send(run)
            return self._answers()[0]
        except BaseException:
            self._end()  # its peers wait for one that failed
            raise

    def _answers(self) -> list[Record]:
        """One record of each process.

        Raises:
            Exception: what the first that failed raised.
        """
        found: dict[int, Record] = {}
        while len(found) < len(self._team):
            waiting = {i: w for i, w in enumerate(self._team) if i not in found}
            ready = wait([handle for w in waiting.values() for handle in (w.line, w.process.sentinel)])
            # One that ended comes first: what its peers then say is only that it did.
            for rank, worker in sorted(waiting.items(), key=lambda pair: pair[1].process.is_alive()):
                if worker.line in ready or worker.process.sentinel in ready:
                    found[rank] = self._answer(rank, worker)
        return [found[rank] for rank in sorted(found)]

    def _answer(self, rank: int, worker: Worker) -> Record:
        try:
            answer: Record | Exception = worker.line.recv()
        except (EOFError, ConnectionError):  # there is nobody at the other end
            worker.process.join()
            raise RuntimeError(f"process {rank} of {self.devices} ended with {worker.process.exitcode}") from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _start(self) -> None:
        spawn = multiprocessing.get_context("spawn")
        threads = self.config.threads or threads_each(self.devices)
        self._folder = tempfile.TemporaryDirectory(prefix="clbench-", ignore_cleanup_errors=True)
        meeting = str(Path(self._folder.name, "meeting"))
        for rank in range(self.devices):
            here, there = spawn.Pipe()
            arguments = (there, rank, self.devices, self.config.sharding, self.device, threads, meeting)
            process = spawn.Process(target=_work, args=arguments, daemon=True)
            process.start()
            there.close()
            self._team.append(Worker(process, here))

    def _end(self) -> None:
        for worker in self._team:
            worker.process.kill()
        for worker in self._team:
            worker.process.join()
        if self._team:
            self._folder.cleanup()
        self._team = []


def _work(line: Connection, rank: int, size: int, sharding: Sharding, device: str, threads: int, meeting: str) -> None:
    """Carry out run after run, in lockstep with the others."""
    end_with_parent()
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "OMP_NUM_THREADS": str(threads)}
    # each sees one GPU only, so that nothing is put on a peer's
    os.environ |= {"LOCAL_RANK": "0" if device == "cuda" else str(rank), "LOCAL_WORLD_SIZE": str(size)}
    if device == "cuda":
        seen = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        os.environ["CUDA_VISIBLE_DEVICES"] = seen.split(",")[rank] if seen else str(rank)
    torch.set_num_threads(threads)
    with contextlib.suppress(EOFError, BrokenPipeError):
        peers = None
        for run in _told(line):
            try:
                peers = peers or (Team(rank, size, sharding, device, meeting) if size > 1 else Peers())
                line.send(engine.execute(run, peers))
            except Exception as error:
                line.send(error)


def _told(line: Connection) -> Iterator[Run]:
    while True:
        yield line.recv()
