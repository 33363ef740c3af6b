"""Several runs side by side, each in a process of its own, on a GPU of its own or beside others."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from queue import LifoQueue

import torch

from clbench import engine
from clbench.environment import cores, threads_each
from clbench.errors import ResourceError
from clbench.executor import executors
from clbench.record import Record
from clbench.run import Run
from clbench.space import require
from clbench.workers import EndedError, Worker, WorkerExecutor, end, visible_gpu


@dataclass
class ProcessesConfig:
    """How many, and how wide."""

    workers: int | None = None  # processes, dealt evenly over the GPUs; null: one per core, or per_gpu on every GPU
    per_gpu: int = 1  # runs side by side on each GPU; a small model leaves it idle, so more of them finish sooner
    threads: int | None = None  # torch threads in each; null: OMP_NUM_THREADS, or the cores divided by the workers

    def __post_init__(self) -> None:
        require(self.workers is None or self.workers >= 1, "executor.workers", ">= 1 or null", self.workers)
        require(self.per_gpu >= 1, "executor.per_gpu", ">= 1", self.per_gpu)
        require(self.threads is None or self.threads >= 1, "executor.threads", ">= 1 or null", self.threads)


@executors.register(ProcessesConfig)
class Processes(WorkerExecutor):
    """Workers are started when they are needed. One that ends takes its own run along and no other."""

    config: ProcessesConfig

    def __init__(self, config: ProcessesConfig, jobs: int, device: str) -> None:
        self._gpus = max(1, torch.cuda.device_count()) if device == "cuda" else 0
        usual = self._gpus * config.per_gpu or cores()
        super().__init__(config, jobs, device, max(1, min(config.workers or usual, jobs)))
        self._threads = config.threads or threads_each(self.workers)
        self._alive: dict[int, Worker] = {}
        self._free: LifoQueue[int] = LifoQueue()  # the last that was freed first: it has a process already
        for number in reversed(range(self.workers)):
            self._free.put(number)

    def _carry_out(self, run: Run) -> Record:
        number = self._free.get()
        try:
            worker = self._alive.get(number)
            if worker is None or not worker.process.is_alive():
                worker = self._alive[number] = self._started(number)
            worker.begin(run)
            return worker.answer()
        except EndedError as error:
            raise self._loss(run, error.args[0]) from None
        finally:
            self._free.put(number)

    def _started(self, number: int) -> Worker:
        outer = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        return Worker(engine.execute, self._threads, visible_gpu(number, self._gpus, outer) if self._gpus else {})

    def _loss(self, run: Run, status: int) -> ResourceError:
        how = f"by {signal.Signals(-status).name}" if status < 0 else f"with status {status}"
        lower = "executor.per_gpu" if self._gpus and self.config.workers is None else "executor.workers"
        return ResourceError(
            f"the process that carried out {run.folder} ended {how}, as it does for want of memory; lower {lower} or "
            "strategy.batch_size; the same command goes on where this one stopped"
        )

    def _end(self) -> None:
        end(list(self._alive.values()))
