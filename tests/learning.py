"""Small real streams and strategies for tests: scikit-learn's digits and a network of a few thousand parameters, and
instructions and edits for the embedded language models.
"""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import product
from typing import Any, cast

import pytest
import torch

from clbench.edits.editor import Editor
from clbench.edits.located import Located
from clbench.errors import ClbenchError
from clbench.images.features import with_features
from clbench.models.classifier import build_classifier
from clbench.models.config import EMBEDDED_CAUSAL, AdapterConfig, ModelConfig
from clbench.models.model import Model
from clbench.record import Setting
from clbench.scenario import Experience, Modality, Scenario, Stream, scenarios
from clbench.seeding import isolated
from clbench.space import starts
from clbench.strategy import Problem, strategies

OF_CLASSES = (Setting.CLASS_INCREMENTAL, Setting.TASK_INCREMENTAL)
"""Settings of streams of images."""


def skip_without_package(name: str) -> None:
    """Skip the test where a plugin needs a package that is not installed."""
    packages = {"avalanche": "Avalanche", "tensorboard": "TensorBoard", "wandb": "Weights & Biases"}
    if name in packages:
        pytest.importorskip(name, reason=f"{packages[name]} is not installed")


def cases() -> list[tuple[str, Setting]]:
    """Every strategy in every setting that it learns."""
    return [(name, setting) for name, setting in product(strategies.names(), Setting) if setting in settings(name)]


def settings(name: str) -> list[Setting]:
    """The settings that a strategy is for; those of images where its package is missing."""
    try:
        method = strategies.load(name)[0]
    except ClbenchError:
        return list(OF_CLASSES)
    if issubclass(method, Editor | Located):
        return [Setting.EDITING]
    texts = [Setting.INSTRUCTION] * (Modality.TEXTS in method.learns)
    return [*OF_CLASSES, *texts] if Modality.IMAGES in method.learns else texts


def digits(setting: Setting = Setting.CLASS_INCREMENTAL, seed: int = 0, increment: int = 2) -> Stream:
    """The digits' five experiences; more or fewer with another increment."""
    scenario, config = scenarios.load("digits")
    return scenario(config(increment=increment, setting=setting)).stream(seed)


def instructions(adapter: AdapterConfig | None = None, model: str = EMBEDDED_CAUSAL, **values: Any) -> Scenario:
    """Tasks on letters and digits, with few examples, and the model that learns them."""
    scenario, config = scenarios.load("instructions")
    small = {"train_per_task": 64, "test_per_task": 8, **values}
    return scenario(config(**small), model=ModelConfig(model, adapter=adapter or AdapterConfig()))


def edits(**values: Any) -> Scenario:
    """Twelve edits in three experiences, and the model that knows what they change."""
    scenario, config = scenarios.load("edits")
    small = {"edits": 12, "per_experience": 4, "questions": 6, "unedited": 8, "max_answer": 4, **values}
    return scenario(config(**small))


def scenario_for(name: str, **values: Any) -> Scenario:
    """A stream of texts that a strategy is for: `edits`, or `instructions` with the adapters that it needs."""
    if settings(name) == [Setting.EDITING]:
        return edits(**values)
    rank = 4 if strategies.load(name)[0].low_rank else 0
    return instructions(AdapterConfig(rank=rank), preferences=name == "dpo", **values)


def shortened(experience: Experience, examples: int) -> Experience:
    """The same experience with its first training examples only."""
    return replace(experience, train=experience.train.select(torch.arange(min(examples, len(experience.train)))))


def stream_for(
    name: str,
    setting: Setting | None = None,
    seed: int = 0,
    increment: int = 2,
    model: str | None = None,
    **values: Any,
) -> Stream:
    """A stream with the columns that a strategy reads; features are those of the backbone of seed 0."""
    skip_without_package(name)
    setting = setting or settings(name)[0]
    if setting.in_words:
        return scenario_for(name).stream(seed)
    method, config = strategies.load(name)
    stream, columns = digits(setting, seed, increment), method.reads(config(**values))
    if "feature" not in columns:
        return stream
    backbone: Any = problem(stream, model=model or backbone_for(name)).model()
    return with_features(stream, backbone, torch.device("cpu"), images="image" in columns)


def backbone_for(name: str) -> str:
    """A small backbone that a strategy can take."""
    return "small_vit" if strategies.load(name)[0].pretrained else "small_cnn"


def problem(stream: Stream, seed: int = 0, model: str = "small_cnn", width: int = 4) -> Problem:
    """What a strategy is told about ``stream``."""
    tasks = stream.task_of_class if stream.setting is Setting.TASK_INCREMENTAL else None
    config = ModelConfig(name=model, width=width)

    def fresh() -> Model:
        with isolated(seed, "initialise"):
            classifier = build_classifier(config, cast("tuple[int, int, int]", stream.shape), model, tasks)
            classifier.grow(len(tasks or ()))
            return classifier

    return Problem(fresh, stream.transform, stream.setting, torch.device("cpu"), seed)


def text_problem(scenario: Scenario, stream: Stream, seed: int = 0) -> Problem:
    """What a strategy is told about a stream of texts."""

    def fresh() -> Model:
        with isolated(seed, "initialise"):
            return scenario.build_model(stream)

    device, reference = torch.device("cpu"), stream.reference
    return Problem(fresh, stream.transform, stream.setting, device, seed, pretrained=True, reference=reference)


def strategy(name: str, stream: Stream, /, seed: int = 0, model: str | None = None, **values: Any) -> Any:
    """A strategy, ready to learn ``stream`` with one pass over each experience or one step per edit.

    Its class depends on the name.
    """
    skip_without_package(name)
    _, config = strategies.load(name)
    once = {field.name: 1 for field in fields(config) if field.name.endswith("epochs") or field.name == "steps"}
    values = {**once, **values}
    if stream.setting.in_words:
        scenario = scenario_for(name)
        values = {**starts(config, scenario.training), **values}
        told = text_problem(scenario, stream, seed)
    else:
        told = problem(stream, seed, model or backbone_for(name))
    with isolated(seed, "initialise"):
        return strategies.build(config(**values), told)
