"""What a run leaves on disk: typed, versioned, written atomically, migrated on reading.

A run's folder is named by the hash of what determines the run (`clbench.run.Run.identity`). It holds

- ``record.json``: this module's `Record`, rewritten whole after each experience;
- ``generations/``: of streams of texts, questions and answers to read, a gzipped JSON file per number of experiences;
- ``checkpoint.pt``: while the run goes on, what it needs to go on after a kill (`clbench.engine`);
- ``lock``: held by the process that is working on the run.

Counts are stored, never rounded percentages: every figure that is reported is a pure function of records.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from clbench.errors import ClbenchError, DataError

SCHEMA = 5
OF_LANGUAGE_MODELS = {
    "dtype": "float32",
    "gradient_checkpointing": False,
    "adapter": {
        "rank": 0,
        "alpha": None,
        "dropout": 0.0,
        "targets": ["all-linear"],
        "routing": "none",
        "threshold": 0.3,
    },
}
"""What a model's config had to say before there were any: nothing else, so runs from then stand beside newer ones."""

MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {
    1: lambda raw: {"transform": ""} | raw,  # was not written down
    2: lambda raw: raw | {"probes": [], "model_config": OF_LANGUAGE_MODELS | raw["model_config"]},
    3: lambda raw: raw | {"experiences": [{"shortened": 0} | row for row in raw["experiences"]]},  # there were none
    4: lambda raw: {"access": ""} | raw,  # was not written down
}
"""From schema version n (the key) to n + 1: a function of the JSON object as it was read."""


class Status(Enum):
    """How far a run is."""

    RUNNING = "running"  # begun, or killed and waiting to be gone on with
    FINISHED = "finished"
    DIVERGED = "diverged"  # the loss stopped being finite; unmeasured entries count as chance


class Phase(Enum):
    """What a run may be used for."""

    TUNING = "tuning"  # chooses hyper-parameters, is never reported
    EVALUATION = "evaluation"  # is reported, with hyper-parameters that were frozen before


class Part(Enum):
    """Which of a scenario's classes (or tasks) a run may open."""

    WHOLE = "whole"
    TUNING_HALF = "tuning half"
    EVALUATION_HALF = "evaluation half"


class Setting(Enum):
    """How a learner knows what a test example asks for."""

    CLASS_INCREMENTAL = "class_incremental"
    TASK_INCREMENTAL = "task_incremental"
    INSTRUCTION = "instruction"  # each example says in words what is asked
    EDITING = "editing"  # likewise; an experience is a batch of edits

    @property
    def in_words(self) -> bool:
        """Whether examples say in words what they ask for."""
        return self in (Setting.INSTRUCTION, Setting.EDITING)


@dataclass(frozen=True)
class Selection:
    """How a run's hyper-parameters were chosen."""

    by: str  # "given", or the protocol and its sampler
    criterion: str = ""  # the metric that was maximised, a name in clbench.metrics
    trials: int = 0
    tuning_seeds: tuple[int, ...] = ()
    tuning_score: float | None = None  # the winner's criterion, mean over the tuning seeds, in percent
    tuning_runs: tuple[str, ...] = ()  # identities of every run that was looked at, the losers too
    tuning_table: str = ""  # sha256 of (tuning_runs, their scores): what was frozen, and from what


@dataclass(frozen=True)
class ExperienceInfo:
    """One experience of the stream, as the run saw it."""

    name: str
    classes: int  # classes that are new in it
    train: int  # examples
    test: int  # examples
    shortened: int = 0  # texts among them that were too long and lost a part


@dataclass(frozen=True)
class Measurement:
    """Right answers on one experience's test set."""

    after: int  # experiences learnt so far; 0 = before any training
    experience: int  # counted from 0
    correct: float  # a count, or a sum of scores in [0, 1] where answers can be right in part
    total: int


@dataclass(frozen=True)
class ProbeMeasurement:
    """What was left of an ability that is never trained."""

    after: int  # experiences learnt so far; 0 = before any training
    probe: str
    unit: str  # of clbench.probe.Unit: "log_likelihood": total is nats; "accuracy", "gain", "residue": a sum of scores
    total: float
    count: int  # examples, or tokens


@dataclass(frozen=True)
class Cost:
    """What learning one experience took. Only `learn_*` is the strategy's own time."""

    experience: int  # counted from 0
    learn_seconds: float
    learn_cpu_seconds: float
    evaluate_seconds: float
    evaluate_cpu_seconds: float
    peak_bytes: int | None  # resident memory of the process (CPU) or allocated memory (GPU), reset per experience
    stored_bytes: int  # exemplars and auxiliary state kept for later experiences, the model itself apart
    parameters: int
    trainable_parameters: int


@dataclass(frozen=True)
class Environment:
    """Where a run was computed."""

    clbench: str
    commit: str  # git commit of the code, "+" behind it where the work tree differed; "" outside a checkout
    python: str
    packages: dict[str, str]
    platform: str
    device: str  # "cpu", or the GPU's name
    threads: int


@dataclass(frozen=True)
class Record:
    """One run: what was asked, under which conditions, what was measured, what it cost."""

    run: str  # hash of what determines the run; the folder's name
    status: Status
    scenario: str
    scenario_config: dict[str, Any]
    scenario_version: int
    part: Part
    split_seed: int | None  # how the halves were drawn; None = by class number
    swapped: bool  # the halves have changed places
    setting: Setting
    strategy: str
    strategy_config: dict[str, Any]
    strategy_version: int
    model_config: dict[str, Any]
    asked: dict[str, str]  # what the user typed, before defaults
    protocol: str
    phase: Phase
    selection: Selection
    seed: int
    data_digest: str  # sha256 of the data and of the order it is learnt in
    access: str  # what the learner saw of past experiences while it learnt one
    transform: str  # from stored images to the network's input: sizes, crops, interpolation, mean and std
    experiences: tuple[ExperienceInfo, ...]
    environment: Environment
    started: str  # ISO 8601, UTC
    measurements: tuple[Measurement, ...] = ()
    probes: tuple[ProbeMeasurement, ...] = ()
    costs: tuple[Cost, ...] = ()
    state_digest: str = ""  # sha256 of the learner's state after the last experience
    notes: dict[str, Any] = field(default_factory=dict)  # by experience, what the strategy logged; "stream"; "kernels"
    problem: str = ""  # why a diverged run ended
    schema: int = SCHEMA

    @property
    def learnt(self) -> int:
        """Experiences learnt and measured so far."""
        return len(self.costs)


def to_json(record: Record) -> str:
    """The record as JSON text, keys in their declared order."""
    return json.dumps(dataclasses.asdict(record), default=_plain, indent=1)


def from_json(text: str) -> Record:
    """The record that `to_json` wrote, in this or an earlier version.

    Raises:
        ClbenchError: the text is no record, or one of a later version.
    """
    try:
        raw = json.loads(text)
        version = int(raw["schema"])
        if version > SCHEMA:
            raise ClbenchError(f"record of schema {version}; this clbench reads up to {SCHEMA}. Upgrade clbench")
        for step in range(version, SCHEMA):
            raw = MIGRATIONS[step](raw)
        return from_plain(raw | {"schema": SCHEMA})
    except (KeyError, TypeError, ValueError) as error:
        raise ClbenchError(f"not a clbench record: {error!r}") from error


def from_plain(raw: dict[str, Any]) -> Record:
    """The record of this version's JSON object."""
    selection = raw["selection"]
    return Record(
        **raw
        | {
            "status": Status(raw["status"]),
            "part": Part(raw["part"]),
            "setting": Setting(raw["setting"]),
            "phase": Phase(raw["phase"]),
            "selection": Selection(
                **selection
                | {"tuning_seeds": tuple(selection["tuning_seeds"]), "tuning_runs": tuple(selection["tuning_runs"])}
            ),
            "experiences": tuple(ExperienceInfo(**row) for row in raw["experiences"]),
            "measurements": tuple(Measurement(**row) for row in raw["measurements"]),
            "probes": tuple(ProbeMeasurement(**row) for row in raw["probes"]),
            "costs": tuple(Cost(**row) for row in raw["costs"]),
            "environment": Environment(**raw["environment"]),
        }
    )


def _plain(value: object) -> object:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be written to a record")


def plain(config: Any) -> dict[str, Any]:
    """A config dataclass as plain JSON values: what a record stores and what an identity hashes."""
    return dict(json.loads(json.dumps(dataclasses.asdict(config), default=_plain)))


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that at every moment the old or the new content stands there whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".partial")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


def write(folder: Path, record: Record) -> None:
    """Write ``folder/record.json`` atomically."""
    write_atomically(folder / "record.json", to_json(record).encode())


def read(folder: Path) -> Record | None:
    """The record in a run's folder; None where there is none yet.

    Raises:
        ClbenchError: what stands there is no record of ours.
    """
    path = folder / "record.json"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    try:
        return from_json(text)
    except ClbenchError as error:
        raise ClbenchError(f"{path}: {error}") from error


def find(folders: Iterable[Path]) -> Iterator[Record]:
    """Every record below the given folders, each run once, in the order of their paths.

    Raises:
        DataError: a folder does not exist.
    """
    seen: set[str] = set()
    for folder in folders:
        if not folder.is_dir():
            raise DataError(f"no folder {str(folder)!r} to read runs from; name the output folder of `clbench run`")
        for path in sorted(folder.rglob("record.json")):
            record = read(path.parent)
            if record is not None and record.run not in seen:
                seen.add(record.run)
                yield record
