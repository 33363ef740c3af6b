"""One run at a time, by several processes that share its batches, each on a device of its own."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
from pathlib import Path

import torch

from clbench import engine
from clbench.environment import threads_each
from clbench.errors import ConfigError
from clbench.executor import executors
from clbench.parallel import Peers, Sharding, Team
from clbench.record import Record
from clbench.run import Run
from clbench.space import require
from clbench.workers import EndedError, Worker, WorkerExecutor, end, visible_gpu


@dataclass
class AccelerateConfig:
    """How many devices, and what each holds."""

    devices: int | None = None  # that share each run; null: every GPU, or one process on the CPU
    sharding: Sharding = Sharding.NONE  # what a device holds while it trains
    threads: int | None = None  # torch threads in each; null: OMP_NUM_THREADS, or the cores divided by the devices

    def __post_init__(self) -> None:
        require(self.devices is None or self.devices >= 1, "executor.devices", ">= 1 or null", self.devices)
        require(self.threads is None or self.threads >= 1, "executor.threads", ">= 1 or null", self.threads)


@executors.register(AccelerateConfig)
class Accelerate(WorkerExecutor):
    """Workers that are started when they are needed and end all together."""

    config: AccelerateConfig

    def __init__(self, config: AccelerateConfig, jobs: int, device: str) -> None:
        super().__init__(config, jobs, device, side_by_side=1)
        there = torch.cuda.device_count() if device == "cuda" else None
        self.devices = config.devices or there or 1
        if there is not None and self.devices > there:
            raise ConfigError(f"executor.devices={self.devices}, but torch finds {there} GPUs here; lower it")
        if self.devices == 1 and config.sharding is not Sharding.NONE:
            raise ConfigError("one device has nobody to share with; add executor.devices=2 or leave sharding out")
        self._team: list[Worker] = []

    def placed(self, run: Run) -> Run:
        """The run on so many devices, which decide how sums are rounded."""
        return replace(run, devices=self.devices, sharding=self.config.sharding)

    def _carry_out(self, run: Run) -> Record:
        if not self._team:
            self._start()
        try:
            for worker in self._team:
                worker.begin(run)
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
            return worker.answer()
        except EndedError as error:
            raise RuntimeError(f"process {rank} of {self.devices} ended with {error}") from None

    def _start(self) -> None:
        threads = self.config.threads or threads_each(self.devices)
        self._folder = tempfile.TemporaryDirectory(prefix="clbench-", ignore_cleanup_errors=True)
        meeting = str(Path(self._folder.name, "meeting"))
        for rank in range(self.devices):
            share = Share(rank, self.devices, self.config.sharding, self.device, meeting)
            self._team.append(Worker(share, threads, self._variables(rank, threads)))

    def _variables(self, rank: int, threads: int) -> dict[str, str]:
        """What torch.distributed wants to find. Each sees one GPU only, so that nothing is put on a peer's."""
        size, gpus = str(self.devices), self.device == "cuda"
        told = {"RANK": str(rank), "WORLD_SIZE": size, "OMP_NUM_THREADS": str(threads), "LOCAL_WORLD_SIZE": size}
        seen = visible_gpu(rank, self.devices, os.environ.get("CUDA_VISIBLE_DEVICES", "")) if gpus else {}
        return {**told, **seen, "LOCAL_RANK": "0" if gpus else str(rank)}

    def _end(self) -> None:
        end(self._team)
        if self._team:
            self._folder.cleanup()
        self._team = []


@dataclass
class Share:
    """What one worker does of each run, in lockstep with the others: its share."""

    rank: int
    size: int
    sharding: Sharding
    device: str
    meeting: str
    peers: Peers | None = None  # met at the first run

    def __call__(self, run: Run) -> Record:
        """Carry out one run."""
        alone = self.size == 1
        self.peers = self.peers or (
            Peers() if alone else Team(self.rank, self.size, self.sharding, self.device, self.meeting)
        )
        return engine.execute(run, self.peers)
