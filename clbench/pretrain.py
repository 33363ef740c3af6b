"""Pre-trained weights by a recipe: one model, trained once on classes that no reported stream will show it.

The backbone learns all classes of one part of a scenario at once, by cross-entropy, and its weights are kept with a
certificate: which data and classes, which seed, recipe and versions, and how well it learnt them. A run reads it
(`clbench.models.checkpoint.read_certificate`) and refuses to report classes that its weights were trained on.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from clbench import environment, record, seeding
from clbench.engine import reproducible
from clbench.errors import ClbenchError, ConfigError
from clbench.examination import measure
from clbench.finetune import FineTune, FineTuneConfig
from clbench.models.checkpoint import CERTIFICATE, read_certificate
from clbench.models.config import ModelConfig
from clbench.models.language import quiet, tokenizer_of
from clbench.opening import problem_of
from clbench.record import Setting, write_atomically
from clbench.run import Run, weights_of
from clbench.scenario import Experience, Modality, Stream, scenarios
from clbench.table import Table

Advance = Callable[[int, int], None]
"""Told after each step: (steps done, steps in all)."""


class Pretraining(FineTune):
    """The gradient loop over a single experience, telling how far it is."""

    def __init__(self, config: FineTuneConfig, problem: Any, advance: Advance) -> None:
        super().__init__(config, problem)
        self.advance, self.done, self.steps = advance, 0, 0

    def begin(self, experience: Experience) -> None:
        """Count the steps to come."""
        self.steps = self.config.epochs * experience.train.batch_count(self.config.batch_size)

    def after_step(self) -> None:
        """Tell."""
        self.done += 1
        self.advance(self.done, self.steps)


@dataclass(frozen=True)
class Pretrained:
    """What came out.

    Attributes:
        path: of the weights, a safetensors file with the certificate in its metadata.
        certificate: JSON values.
    """

    path: Path
    certificate: dict[str, Any]


def pretrain(run: Run, path: Path, command: str, advance: Advance = lambda done, steps: None) -> Pretrained:
    """Train the run's model on all classes of its part at once, and write the backbone's weights.

    Args:
        run: scenario, part, model, seed, and a strategy config whose shared fields are the recipe.
        path: a ``.safetensors`` file to write.
        command: that does the same again, for the certificate.
        advance: told after each step.

    Raises:
        ClbenchError: the run cannot be put together, or the loss stops being finite.
    """
    from safetensors.torch import save

    texts = scenarios.load(scenarios.name_of(run.scenario))[0].modality is Modality.TEXTS
    _check_writable(path, texts)
    if texts and run.model.adapter.rank:
        raise ConfigError("a language model is pre-trained as a whole; leave model.adapter out")
    stream = merged(run.handle().open(run.seed))
    with reproducible():
        with seeding.isolated(run.seed, "initialise"):
            learner = Pretraining(run.strategy, problem_of(run, stream), advance)
        with seeding.isolated(run.seed, "learn", 0):
            learner.learn(stream.experiences[0])
        (result,) = measure(learner, stream, 1)
    certificate = {
        "scenario": scenarios.name_of(run.scenario),
        "scenario_config": record.plain(run.scenario),
        "part": run.part.value,
        "split_seed": run.split_seed,
        "swapped": run.swap,
        "data_digest": stream.digest,
        "classes": len(stream.experiences[0].classes),
        "class_ids": sorted(stream.class_ids | _seen_before(run.model)),
        "training_examples": len(stream.experiences[0].train),
        "model": record.plain(run.model),
        "recipe": record.plain(run.strategy),
        "seed": run.seed,
        "test_accuracy": 100 * result.correct / result.total,
        "test_examples": result.total,
        "command": command,
        "started_from": _certificate_of(run.model),
        "environment": record.plain(environment.describe(torch.device(run.device))),
    }
    if texts:
        write_language_model(path, learner.model, run.model, certificate)
        return Pretrained(path, certificate)
    weights = {name: tensor.contiguous().cpu() for name, tensor in learner.model.backbone.state_dict().items()}
    write_atomically(path, save(weights, {"clbench": json.dumps(certificate)}))
    return Pretrained(path, certificate)


def write_language_model(path: Path, model: Any, config: ModelConfig, certificate: dict[str, Any]) -> None:
    """Write a folder that transformers loads, and the certificate in ``clbench.json``; whole or not at all."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f"{path.name}.partial") as holder:
        partial = Path(holder) / "model"
        words = tokenizer_of(config)
        model.network.config.pad_token_id = words.pad
        with quiet():
            model.network.save_pretrained(partial)
            words.fast.save_pretrained(partial)
        (partial / CERTIFICATE).write_text(json.dumps(certificate, indent=1) + "\n", encoding="utf-8")
        partial.replace(path)


def _check_writable(path: Path, texts: bool) -> None:
    if texts and path.exists():
        raise ConfigError(f"{path} is there already; a language model is written to a folder that is not there yet")
    if not texts and path.suffix != ".safetensors":
        raise ConfigError(f"weights are written as .safetensors, got {path}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise ClbenchError(f"cannot write to {path.parent} ({error.strerror}); choose another file") from error


def _certificate_of(model: ModelConfig) -> dict[str, Any] | None:
    path = weights_of(model)
    return None if path is None else read_certificate(path)


def _seen_before(model: ModelConfig) -> set[str]:
    """Classes that the weights it starts from were trained on."""
    return set((_certificate_of(model) or {}).get("class_ids", ()))


def merged(stream: Stream) -> Stream:
    """The stream's experiences as a single one, all of whose classes compete."""
    first = stream.experiences[0]
    joined = [
        Table(getattr(first, split).source, torch.cat([getattr(e, split).rows for e in stream.experiences]))
        for split in ("train", "test")
    ]
    classes = tuple(c for e in stream.experiences for c in e.classes)
    whole = Experience(0, "all classes", joined[0], joined[1], classes, len(classes))
    # after the one experience it is asked for all that it has seen, and for nothing before
    return replace(stream, experiences=(whole,), setting=Setting.CLASS_INCREMENTAL)
