"""A run: one strategy, one stream, one seed. What determines it, and therefore where it is kept."""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from clbench import record
from clbench.errors import CheckpointError, ConfigError, LeakError
from clbench.models import embedded
from clbench.models.checkpoint import read_certificate
from clbench.models.config import EMBEDDED, ModelConfig
from clbench.models.pretrained_vit import WEIGHTS
from clbench.parallel import Sharding
from clbench.record import Part, Phase, Selection
from clbench.scenario import Handle, Modality, Scenario, Stream, scenarios
from clbench.strategy import strategies

RANK = 8  # of low-rank adapters where a strategy needs them and the user names none


@dataclass(frozen=True)
class Run:
    """One run, as a protocol asks for it and an executor carries it out; it can be pickled.

    Attributes:
        scenario: config of the scenario.
        strategy: config of the strategy, its hyper-parameters final.
        model: config of the model; its name resolved.
        seed: of class order, initialisation, batches and everything else.
        phase: whether it chooses hyper-parameters or is reported.
        part: of the scenario's classes that it may open.
        selection: how the hyper-parameters were chosen.
        protocol: name of the protocol that asks for it.
        device: ``cpu`` or ``cuda``.
        output: folder under which the run's own folder lies.
        root: where data are looked for first.
        split_seed: how the halves are drawn; None = by class number.
        swap: exchange the halves.
        asked: what the user typed.
        devices: how many share the run.
        sharding: what each of them holds.

    Raises:
        LeakError: it would tune on the evaluation half, or report it with hyper-parameters that nobody froze.
    """

    scenario: Any
    strategy: Any
    model: ModelConfig
    seed: int
    phase: Phase
    part: Part
    selection: Selection
    protocol: str
    device: str
    output: Path
    root: Path | None = None
    split_seed: int | None = None
    swap: bool = False
    asked: tuple[tuple[str, str], ...] = ()
    devices: int = 1
    sharding: Sharding = Sharding.NONE

    def __post_init__(self) -> None:
        if self.phase is Phase.TUNING and self.part is not Part.TUNING_HALF:
            raise LeakError(f"a tuning run may open the tuning half only, not the {self.part.value}")
        if self.phase is Phase.EVALUATION and self.part is Part.TUNING_HALF:
            raise LeakError("the tuning half is never reported")
        if self.phase is Phase.EVALUATION and self.seed in self.selection.tuning_seeds:
            raise LeakError(f"seed {self.seed} was tuned on; an evaluation seed must be another")

    @functools.cached_property
    def identity(self) -> str:
        """16 hexadecimal digits of the sha256 of all that determines the result."""
        scenario, _ = scenarios.load(scenarios.name_of(self.scenario))
        strategy, _ = strategies.load(strategies.name_of(self.strategy))
        what = {
            "scenario": [scenarios.name_of(self.scenario), scenario.version, record.plain(self.scenario)],
            "strategy": [strategies.name_of(self.strategy), strategy.version, record.plain(self.strategy)],
            "model": [record.plain(self.model), _file_digest(weights_of(self.model))],
            "part": [self.part.value, self.split_seed, self.swap],
            "seed": self.seed,
            "phase": self.phase.value,
            "device": self.device + self.team,
        }
        if self.phase is Phase.EVALUATION:
            what["selection"] = [self.protocol, record.plain(self.selection)]
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def team(self) -> str:
        """How many devices, and what each holds, in words; empty where there is one."""
        shards = " sharded" if self.sharding is Sharding.FULL else ""
        return f" x {self.devices}{shards}" if self.devices > 1 else ""

    @property
    def folder(self) -> Path:
        """The run's own folder."""
        names = (scenarios.name_of(self.scenario), strategies.name_of(self.strategy), self.phase.value)
        return self.output.joinpath(*names, self.identity)

    def handle(self) -> Handle:
        """The right to open this run's part of the scenario, and no other."""
        return Handle(self.source(), self.part, self.split_seed, self.swap)

    def source(self) -> Scenario:
        """The scenario, which knows where its data lie and what model will read them."""
        return scenarios.build(self.scenario, self.root, self.device, self.model)


def check_weights(run: Run, stream: Stream) -> None:
    """See that a run does not report classes that its weights were trained on, as their certificate tells.

    Raises:
        LeakError: it would.
    """
    path = weights_of(run.model)
    certificate = None if path is None else read_certificate(path)
    seen = stream.class_ids & set((certificate or {}).get("class_ids", ()))
    if seen and run.phase is Phase.EVALUATION:
        raise LeakError(
            f"{path} was trained on {len(seen)} of the {len(stream.class_ids)} classes that this run reports "
            f"({', '.join(sorted(seen)[:3])}, ...); report others: what was trained on a tuning half goes with "
            "protocol=single protocol.part=evaluation_half"
        )


def weights_of(model: ModelConfig) -> Path | None:
    """The file or folder that a model's weights come from; None where it begins at random or with published weights."""
    if model.name == EMBEDDED and model.checkpoint is None:
        return WEIGHTS
    if model.name in embedded.TRAINED:
        return embedded.weights_of(model.name)
    folder = Path(model.name or "").expanduser()
    return folder if model.name and (folder / "config.json").is_file() else model.checkpoint


def begins_able(run: Run) -> bool:
    """Whether a run's model has learnt something before its first experience: has weights, as language models do."""
    texts = scenarios.load(scenarios.name_of(run.scenario))[0].modality is Modality.TEXTS
    model = run.model
    return model.pretrained or weights_of(model) is not None or (texts and model.name not in embedded.RANDOM)


def resolved_model(model: ModelConfig, scenario: Any, strategy: Any) -> ModelConfig:
    """The model a run trains: as the user gave it, what is left out decided by the scenario and the strategy.

    Args:
        model: as given.
        scenario: config of the scenario.
        strategy: config of the strategy. One that starts from a pre-trained model gets the scenario's, with its
            weights, where the user names none.

    Raises:
        ConfigError: the strategy starts from a pre-trained model, and the one that is named comes without weights.
    """
    source, _ = scenarios.load(scenarios.name_of(scenario))
    name = strategies.name_of(strategy)
    method, _ = strategies.load(name)
    if source.modality is Modality.TEXTS:
        adapter = replace(model.adapter, rank=model.adapter.rank or (RANK if method.low_rank else 0))
        return replace(model, name=model.name or source.default_model, adapter=adapter)
    if not method.pretrained:
        return replace(model, name=model.name or source.default_model)
    if model.name is None and model.checkpoint is None:
        return replace(model, name=source.pretrained_model, pretrained=True)
    if model.name != EMBEDDED and not model.pretrained and model.checkpoint is None:
        raise ConfigError(
            f"{name} starts from a pre-trained model, and model.name={model.name} comes without weights; add "
            f"model.checkpoint=FILE or, for published ones, model.pretrained=true; or leave model.name out"
        )
    return replace(model, name=model.name or source.pretrained_model)


def _file_digest(path: Path | None) -> str:
    if path is None:
        return ""
    path = path.expanduser()
    files = sorted(path.glob("*")) if path.is_dir() else [path]
    try:
        stats = [(file, file.stat()) for file in files if file.is_file()]
        digests = [_digest_of_version(file, stat.st_mtime_ns, stat.st_size) for file, stat in stats]
        return digests[0] if path.is_file() else hashlib.sha256(" ".join(digests).encode()).hexdigest()
    except OSError as error:
        raise CheckpointError(f"model.checkpoint {str(path)!r} cannot be read ({error.strerror})") from error


@functools.lru_cache
def _digest_of_version(path: Path, _modified: int, _size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _sha256(path)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
