"""The one loop over experiences.

stream = handle.open(seed)
strategy = build(config, problem)
for experience in stream:
    strategy.learn(experience)        # the only call whose time is the strategy's
    predict on the test sets          # of all experiences seen (task-incremental: of all)
    write checkpoint and record       # a kill from here on loses nothing before here
"""

from __future__ import annotations

import contextlib
import io
import os
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from clbench import environment, record, seeding
from clbench.digest import state_digest
from clbench.errors import ClbenchError, DataError, DivergedError, ResourceError
from clbench.examination import examine, keep_generations, probe
from clbench.kernels import dispatch
from clbench.opening import build_strategy, new_record, open_stream
from clbench.parallel import Peers
from clbench.record import Cost, Record, Status
from clbench.run import Run
from clbench.scenario import Experience
from clbench.strategy import Strategy


def execute(run: Run, peers: Peers | None = None) -> Record:
    """Carry a run out, go on with it where it was killed, or return it where it is finished.

    Several processes may ask for the same run: one works, the others wait for its record. Peers are processes that work
    together and call this at the same time; the first of them writes.

    Raises:
        ClbenchError: what the run asks for does not fit together, or its data have changed since it began.
        ResourceError: the GPU's memory was too small.
    """
    peers = peers or Peers()
    with contextlib.ExitStack() as stack:
        if peers.first:
            stack.enter_context(_alone_in(run.folder))
        peers.wait()
        found = record.read(run.folder)
        if found is not None and found.status is not Status.RUNNING:
            return found
        try:
            with reproducible():
                return _Session(run, peers).go_on()
        except ClbenchError:
            raise
        except Exception as error:
            record.write_atomically(run.folder / "error.txt", traceback.format_exc().encode())
            if isinstance(error, torch.cuda.OutOfMemoryError) or "CUDA error: out of memory" in str(error):
                raise _want_of_memory(run, error) from error
            raise


def _want_of_memory(run: Run, error: Exception) -> ResourceError:
    return ResourceError(
        f"the GPU's memory is too small for {run.folder} ({str(error).partition('. ')[0].splitlines()[0]}); where runs "
        "share the GPU, lower executor.per_gpu or executor.workers, else strategy.batch_size; the same command goes on "
        "where this one stopped"
    )


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(folder / "lock"))
        except OSError as error:
            raise ClbenchError(f"cannot write to {folder} ({error.strerror}); choose another output=FOLDER") from error
        for left_behind in folder.rglob("*.partial"):  # by a kill in the middle of writing
            left_behind.unlink()
        yield


@contextlib.contextmanager
def reproducible() -> Iterator[None]:
    """Have torch choose algorithms that give the same bits each time, where it has one."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
        torch.use_deterministic_algorithms(torch.cuda.is_available(), warn_only=True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before[0], warn_only=before[1])


@dataclass(frozen=True)
class Checkpoint:
    """A record and the learner's state that belongs to it, in one file so that they cannot part."""

    record: Record
    state: dict[str, Any]

    def write(self, run: Run) -> None:
        """Write ``checkpoint.pt``, then the record for people and reports."""
        buffer = io.BytesIO()
        torch.save({"record": record.to_json(self.record), "state": self.state}, buffer)
        record.write_atomically(run.folder / "checkpoint.pt", buffer.getvalue())
        record.write(run.folder, self.record)

    @classmethod
    def read(cls, run: Run, device: torch.device) -> Checkpoint | None:
        """The run's checkpoint; None where there is none."""
        path = run.folder / "checkpoint.pt"
        if not path.exists():
            return None
        raw = torch.load(path, map_location=device, weights_only=True)
        return cls(record.from_json(raw["record"]), raw["state"])


class _Session:
    """One process's work on one run."""

    def __init__(self, run: Run, peers: Peers | None = None) -> None:
        self.run, self.peers, self.device = run, peers or Peers(), torch.device(run.device)
        _warm_up(self.device)
        dispatch.begin()
        self.stream = open_stream(run)
        self.strategy = build_strategy(run, self.stream, self.peers)
        self._written = (0.0, 0.0)  # when the last checkpoint was, and how long it took to write

    def go_on(self) -> Record:
        current = self._begin_or_resume()
        for experience in self.stream.experiences[current.learnt :]:
            current = self._experience(current, experience)
            if current.status is Status.DIVERGED:
                break
        if current.status is Status.RUNNING:
            digest = state_digest(self.strategy.state())
            current = replace(current, status=Status.FINISHED, state_digest=digest)
        if self.peers.first:
            record.write(self.run.folder, current)
            (self.run.folder / "checkpoint.pt").unlink(missing_ok=True)
        return current

    def _begin_or_resume(self) -> Record:
        checkpoint = Checkpoint.read(self.run, self.device)
        self.peers.wait()  # for all to have read it, before the first writes the next
        if checkpoint is None:
            fresh = new_record(self.run, self.stream)
            return self._measured(fresh, 0)
        if checkpoint.record.data_digest != self.stream.digest:
            raise DataError(
                f"{self.run.folder} was begun on other data (digest {checkpoint.record.data_digest[:12]}, "
                f"now {self.stream.digest[:12]}); put the old data back, or delete the folder to begin anew"
            )
        self.strategy.restore(checkpoint.state)
        return checkpoint.record

    def _experience(self, current: Record, experience: Experience) -> Record:
        environment.reset_peak(self.device)
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            learn(self.strategy, experience)
            self._wait()
        except DivergedError as error:
            return replace(current, status=Status.DIVERGED, problem=str(error))
        learnt, learnt_cpu = time.perf_counter(), time.process_time()
        measured = self._measured(current, experience.index + 1)
        parameters, trained = self.strategy.parameters()
        cost = Cost(
            experience=experience.index,
            learn_seconds=learnt - wall,
            learn_cpu_seconds=learnt_cpu - cpu,
            evaluate_seconds=time.perf_counter() - learnt,
            evaluate_cpu_seconds=time.process_time() - learnt_cpu,
            peak_bytes=environment.peak_bytes(self.device),
            stored_bytes=self.strategy.stored_bytes(),
            parameters=parameters,
            trainable_parameters=trained,
        )
        told = {str(experience.index): self.strategy.notes(), "kernels": self._paths(current)}
        notes = current.notes | {name: notes for name, notes in told.items() if notes}
        current = replace(measured, costs=(*current.costs, cost), notes=notes)
        if self.peers.first and (self.stream.measured(experience.index + 1) or self._due()):
            begun = time.perf_counter()
            Checkpoint(current, self.strategy.state()).write(self.run)
            self._written = (time.perf_counter(), time.perf_counter() - begun)
        return current

    def _paths(self, current: Record) -> dict[str, list[str]]:
        """Which paths the run's kernels took so far, also before it was interrupted."""
        before, now = current.notes.get("kernels", {}), dispatch.paths()
        return {name: sorted({*before.get(name, ()), *now.get(name, ())}) for name in sorted(before | now)}

    def _due(self) -> bool:
        """Whether writing would not take more than a twentieth of the time; what is measured is written in any case."""
        last, took = self._written
        return time.perf_counter() - last > 20 * took

    def _measured(self, current: Record, after: int) -> Record:
        if not self.stream.measured(after):
            return current
        scores, transcript = examine(self.strategy, self.stream, after)
        if transcript and self.peers.first:
            keep_generations(self.run.folder, after, {**self.stream.answers.conditions(), "answers": transcript})
        found = probe(self.strategy, self.stream, after)
        return replace(current, measurements=(*current.measurements, *scores), probes=(*current.probes, *found))

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def _warm_up(device: torch.device) -> None:
    """Have torch load what it loads late, about a second that is not the strategy's."""
    torch.optim.SGD([torch.zeros(1)], lr=1.0)
    if device.type == "cuda":
        torch.cuda.init()


def learn(strategy: Strategy, experience: Experience) -> None:
    """Have the strategy learn one experience, every random number decided by the seed and the experience.

    Raises:
        DivergedError: the loss is no longer finite.
    """
    with seeding.isolated(strategy.problem.seed, "learn", experience.index):
        strategy.learn(experience)
