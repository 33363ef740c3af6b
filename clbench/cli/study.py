"""From checked configs to finished studies: the plan, the progress, the summary."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import torch
from rich.console import Console

from clbench.cli.progress import Watch
from clbench.config import Job
from clbench.environment import threads_each
from clbench.errors import ClbenchError, ConfigError, ResourceError
from clbench.estimate import estimate_seconds
from clbench.executor import Executor, executors
from clbench.opening import open_stream
from clbench.protocol import Protocol, RunError, Stage, Study, protocols
from clbench.record import Record
from clbench.report import summary
from clbench.run import resolved_model
from clbench.scenario import Stream, scenarios
from clbench.strategy import strategies
from clbench.tracker import Tracker, trackers


class Prepared(NamedTuple):
    """A study that has been checked and planned."""

    study: Study
    protocol: Protocol
    stages: tuple[Stage, ...]
    tracker: Tracker

    @property
    def runs(self) -> int:
        """Of all stages."""
        return sum(stage.runs for stage in self.stages)


def carry_out(jobs: list[Job], plan_only: bool = False) -> int:
    """Plan all jobs, then carry them out one after another, each with its runs side by side.

    Returns:
        The exit status: 1 where runs failed, though everything else was finished.

    Raises:
        ClbenchError: one of the jobs cannot be carried out; none has begun then.
    """
    console = Console()
    prepared = [_prepare(job) for job in jobs]
    widest = max(stage.runs for one in prepared for stage in one.stages)
    config = jobs[0].config.executor
    if any(job.config.executor != config for job in jobs):
        raise ConfigError("executor must be the same for all jobs of one command")
    if any(job.config.tracker != jobs[0].config.tracker for job in jobs):
        raise ConfigError("tracker must be one for all jobs of one command; another one later logs what is finished")
    with executors.build(config, widest, prepared[0].study.device) as executor:
        torch.set_num_threads(threads_each(executor.workers))
        for one in prepared:
            _print_plan(one, executor, console)
        return 0 if plan_only else _carry_out(prepared, executor, console)


def _carry_out(prepared: list[Prepared], executor: Executor, console: Console) -> int:
    reported: list[Record] = []
    failed = 0
    for one in prepared:
        title = strategies.name_of(one.study.strategy)
        try:
            with Watch(executor, console, title, one.runs, one.tracker) as watch:
                records = one.protocol.carry_out(one.study, watch.submit)
        except (RunError, ResourceError) as error:
            failed += 1
            where = f"; see error.txt below {one.study.output}" if isinstance(error, RunError) else ""
            print(f"clbench: {title}: {error}{where}", file=sys.stderr)
            continue
        reported += records
        summary.show_runs(list(records), console, one.study.output)
    if len(prepared) > 1 and reported:
        summary.render(reported, console)
    return 1 if failed else 0


def _prepare(job: Job) -> Prepared:
    config = job.config
    device = device_of(config.device)
    _check_writable(config.output)
    model = resolved_model(config.model, config.scenario, config.strategy)
    scenario = scenarios.build(config.scenario, config.data.root, device, model)
    study = Study(config.scenario, config.strategy, model, device, config.output, config.data.root, job.asked)
    protocol = protocols.build(config.protocol)
    stages = protocol.plan(study)
    for stage in stages:
        scenario.check(stage.example.part)
    return Prepared(study, protocol, stages, trackers.build(config.tracker, config.output))


def device_of(asked: str) -> str:
    """``cpu`` or ``cuda`` for a user's ``device=``.

    Raises:
        ConfigError: it is none of cpu, cuda and auto, or there is no GPU.
    """
    if asked not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"device must be cpu, cuda or auto, got {asked!r}")
    if asked == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device=cuda, but torch finds no GPU here; leave it out, or say device=cpu")
    return ("cuda" if torch.cuda.is_available() else "cpu") if asked == "auto" else asked


def _check_writable(output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output):
            pass
    except OSError as error:
        raise ClbenchError(f"cannot write to output={output} ({error.strerror}); choose another folder") from error


def _print_plan(one: Prepared, executor: Executor, console: Console) -> None:
    run, workers = executor.placed(one.stages[-1].example), executor.workers
    try:
        stream = open_stream(run)
        seconds = estimate_seconds(run, stream)
    except RuntimeError as error:
        raise ClbenchError(f"the model cannot take this scenario's data: {str(error).splitlines()[0]}") from error
    study = one.study
    title = f"{strategies.name_of(study.strategy)} on {scenarios.name_of(study.scenario)} ({study.device}{run.team})"
    lines = [f"{stage.runs:5} runs: {stage.text}" for stage in one.stages]
    total = f"{one.runs:5} runs, {workers} at a time: about {_duration(seconds * one.runs / workers)} of learning"
    logs = [f"logged: {one.tracker.shown_by}"] if one.tracker.shown_by else []
    console.print("\n".join((title, *lines, total, *_shortened(stream), *logs)), highlight=False, soft_wrap=True)


def _shortened(stream: Stream) -> list[str]:
    """That some texts lose a part, and in which experiences."""
    found = {e.name: e.shortened for e in stream.experiences if e.shortened}
    texts = sum(len(e.train) + len(e.test) for e in stream.experiences)
    where = ", ".join(f"{name} {count}" for name, count in found.items())
    return [f"{sum(found.values()):5} of {texts} texts are too long and lose a part: {where}"] if found else []


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
