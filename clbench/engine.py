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
import datetime
import gzip
import io
import json
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
from clbench.errors import ClbenchError, DataError, DivergedError, IncompatibleError
from clbench.features import with_features
from clbench.finetune import FineTune
from clbench.kernels import dispatch
from clbench.models.model import Model
from clbench.parallel import Peers, Sharding, no_share
from clbench.record import Cost, ExperienceInfo, Measurement, ProbeMeasurement, Record, Setting, Status
from clbench.run import Run, begins_able, check_weights
from clbench.scenario import Experience, Stream, scenarios
from clbench.strategy import Problem, Strategy, strategies
from clbench.table import Table
from clbench.tokens import rows_at_once

BATCH = 256  # test examples per call of predict; fewer long texts
OFFLINE = "offline"  # all there is arrives at once
KEPT = 20  # answers per experience that are kept to be read


def execute(run: Run, peers: Peers | None = None) -> Record:
    """Carry a run out, go on with it where it was killed, or return it where it is finished.

    Several processes may ask for the same run: one works, the others wait for its record. Peers are processes that work
    together and call this at the same time; the first of them writes.

    Raises:
        ClbenchError: what the run asks for does not fit together, or its data have changed since it began.
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
        except Exception:
            record.write_atomically(run.folder / "error.txt", traceback.format_exc().encode())
            raise


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


def open_stream(run: Run) -> Stream:
    """The run's stream, with the columns that its strategy reads.

    Raises:
        LeakError: the run's weights were trained on classes that it reports.
        IncompatibleError: the strategy does not learn what the scenario shows.
    """
    check_modality(run)
    stream = run.handle().open(run.seed)
    check_weights(run, stream)
    strategy, _ = strategies.load(strategies.name_of(run.strategy))
    columns = strategy.reads(run.strategy)
    if "feature" not in columns:
        return stream
    with seeding.isolated(run.seed, "initialise"):
        model = problem_of(run, stream).model()
    return with_features(stream, model, torch.device(run.device), images="image" in columns)


def problem_of(run: Run, stream: Stream, peers: Peers | None = None) -> Problem:
    """What the run's strategy is told before its first experience."""
    source = run.source()

    def model() -> Model:
        return source.build_model(stream).to(run.device)

    return Problem(
        model,
        stream.transform,
        stream.setting,
        torch.device(run.device),
        run.seed,
        pretrained=begins_able(run),
        peers=peers or Peers(),
        reference=stream.reference,
    )


def build_strategy(run: Run, stream: Stream, peers: Peers | None = None) -> Strategy:
    """The run's strategy, freshly initialised for this stream.

    Raises:
        IncompatibleError: the strategy says that it cannot take this problem.
    """
    problem = problem_of(run, stream, peers)
    name = strategies.name_of(run.strategy)
    strategy, _ = strategies.load(name)
    check_devices(run)
    with seeding.isolated(run.seed, "skip"):
        reason = strategy.skip(run.strategy, problem)
    if reason is not None:
        raise IncompatibleError(f"strategy {name} cannot run here: {reason}")
    with seeding.isolated(run.seed, "initialise"):
        made = strategies.build(run.strategy, problem)
    reason = no_share(made.model) if run.devices > 1 and isinstance(made, FineTune) else None
    if reason is not None:
        raise IncompatibleError(f"a run of {name} cannot be shared by {run.devices} devices: {reason}")
    return made


def check_modality(run: Run) -> None:
    """See that the run's strategy learns what its scenario shows.

    Raises:
        IncompatibleError: it does not.
    """
    name, scenario = strategies.name_of(run.strategy), scenarios.name_of(run.scenario)
    learns, shown = strategies.load(name)[0].learns, scenarios.load(scenario)[0].modality
    if shown not in learns:
        known = " and ".join(sorted(modality.value for modality in learns))
        raise IncompatibleError(f"strategy {name} learns {known} only, and {scenario} is a stream of {shown.value}")


def check_devices(run: Run) -> None:
    """See that the run's strategy can learn on as many devices as it is to, sharded as it is to be.

    Raises:
        IncompatibleError: it cannot.
    """
    name = strategies.name_of(run.strategy)
    can = strategies.load(name)[0].spreads
    if run.devices == 1 or run.sharding in can:
        return
    if run.sharding is Sharding.FULL and Sharding.NONE in can:
        reason, instead = "it may look at whole tensors while it learns", "executor.sharding=none"
    else:
        reason, instead = "its loss is not known to be a mean over a batch's examples", "executor.devices=1"
    how = ", sharded" if run.sharding is Sharding.FULL else ""
    raise IncompatibleError(f"strategy {name} cannot run on {run.devices} devices{how}: {reason}; use {instead}")


def learn(strategy: Strategy, experience: Experience) -> None:
    """Have the strategy learn one experience, every random number decided by the seed and the experience.

    Raises:
        DivergedError: the loss is no longer finite.
    """
    with seeding.isolated(strategy.problem.seed, "learn", experience.index):
        strategy.learn(experience)


def measure(strategy: Strategy, stream: Stream, after: int) -> tuple[Measurement, ...]:
    """What `examine` measures."""
    return examine(strategy, stream, after)[0]


def examine(strategy: Strategy, stream: Stream, after: int) -> tuple[tuple[Measurement, ...], list[dict[str, str]]]:
    """Score answers on the test sets, in one pass over all of them.

    Args:
        strategy: what answers.
        stream: what is asked.
        after: experiences learnt so far; the stream is asked about those. Task-incremental streams are always asked
            about all, since forward transfer is defined there, and texts before any training: what could be done then
            can be lost.

    Returns:
        One measurement per experience, and what was said on the first test examples of each, where it can be read.
    """
    ahead = stream.setting is Setting.TASK_INCREMENTAL or (stream.setting.in_words and not after)
    asked = stream.experiences if ahead else stream.experiences[:after]
    if not asked:
        return (), []
    test = Table(asked[0].test.source, torch.cat([e.test.rows for e in asked]))
    scores: list[float] = []
    transcript: list[dict[str, str]] = []
    with seeding.isolated(strategy.problem.seed, "measure", after):
        for batch in test.batches(rows_at_once(test.source.columns, BATCH)):
            predictions = strategy.predict(stream.answers.question(batch))
            scores += stream.answers.scores(predictions, batch)
            transcript += stream.answers.transcript(predictions, batch)
    measured, kept, start = [], [], 0
    for experience in asked:
        stop = start + len(experience.test)
        measured.append(Measurement(after, experience.index, sum(scores[start:stop]), stop - start))
        kept += [{"experience": experience.name, **said} for said in transcript[start : min(stop, start + KEPT)]]
        start = stop
    return tuple(measured), kept


def probe(strategy: Strategy, stream: Stream, after: int) -> tuple[ProbeMeasurement, ...]:
    """Measure the stream's probes, ``after`` so many experiences."""
    with seeding.isolated(strategy.problem.seed, "probe", after):
        found = [(one, one.measure(strategy, after)) for one in stream.probes]
    return tuple(ProbeMeasurement(after, one.name, one.unit.value, *outcome) for one, outcome in found)


def keep_generations(folder: Path, after: int, said: dict[str, Any]) -> None:
    """Write ``generations/after_N.json.gz``, so that answers can be read and scored again."""
    text = json.dumps(said, ensure_ascii=False, indent=1).encode()
    record.write_atomically(folder / "generations" / f"after_{after}.json.gz", gzip.compress(text, mtime=0))


def new_record(run: Run, stream: Stream) -> Record:
    """The record of a run that has learnt nothing yet."""
    scenario, _ = scenarios.load(scenarios.name_of(run.scenario))
    strategy, _ = strategies.load(strategies.name_of(run.strategy))
    where = environment.describe(torch.device(run.device))
    return Record(
        run=run.identity,
        status=Status.RUNNING,
        scenario=scenarios.name_of(run.scenario),
        scenario_config=record.plain(run.scenario),
        scenario_version=scenario.version,
        part=run.part,
        split_seed=run.split_seed,
        swapped=run.swap,
        setting=stream.setting,
        strategy=strategies.name_of(run.strategy),
        strategy_config=record.plain(run.strategy),
        strategy_version=strategy.version,
        model_config=record.plain(run.model),
        asked=dict(run.asked),
        protocol=run.protocol,
        phase=run.phase,
        selection=run.selection,
        seed=run.seed,
        data_digest=stream.digest,
        access=OFFLINE if len(stream.experiences) == 1 else strategy.access(run.strategy),
        transform=repr(stream.transform),
        experiences=tuple(
            ExperienceInfo(e.name, len(e.classes), len(e.train), len(e.test), e.shortened) for e in stream.experiences
        ),
        environment=replace(where, device=where.device + run.team),
        started=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        notes={"stream": stream.notes} if stream.notes else {},
    )
