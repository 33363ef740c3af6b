"""What a run begins with: its stream, its learner, an empty record, and reasons why they do not go together."""

from __future__ import annotations

import datetime
from dataclasses import replace

import torch

from clbench import environment, record, seeding
from clbench.errors import IncompatibleError
from clbench.finetune import FineTune
from clbench.images.features import with_features
from clbench.models.model import Model
from clbench.parallel import Peers, Sharding, no_share
from clbench.record import ExperienceInfo, Record, Status
from clbench.run import Run, begins_able, check_weights
from clbench.scenario import Stream, scenarios
from clbench.strategy import Problem, Strategy, strategies

OFFLINE = "offline"  # all there is arrives at once


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
