"""Small real streams and strategies for tests: scikit-learn's digits and a network of a few thousand parameters, and
instructions for the embedded language model.
"""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import product
from typing import Any, cast

import pytest
import torch

from clbench.errors import ClbenchError
from clbench.features import with_features
from clbench.models.classifier import build_classifier
from clbench.models.config import EMBEDDED_CAUSAL, EMBEDDED_WORLD, AdapterConfig, ModelConfig
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
    if name == "avalanche":
        pytest.importorskip("avalanche", reason="Avalanche is not installed")


def cases() -> list[tuple[str, Setting]]:
    """Every strategy in every setting that it learns."""
    return [(name, setting) for name, setting in product(strategies.names(), Setting) if setting in settings(name)]


def settings(name: str) -> list[Setting]:
    """The settings that a strategy learns; those of images where its package is missing.

    Of edits only those strategies are tried that read a subject: to all others an edit is a text like any.
    """
    try:
        method, config = strategies.load(name)
    except ClbenchError:
        return list(OF_CLASSES)
    if "subject" in method.reads(config()):
        return [Setting.EDITING]
    shown = {Setting.INSTRUCTION: Modality.TEXTS} | dict.fromkeys(OF_CLASSES, Modality.IMAGES)
    return [setting for setting in Setting if setting in shown and shown[setting] in method.learns]


def digits(setting: Setting = Setting.CLASS_INCREMENTAL, seed: int = 0, increment: int = 2) -> Stream:
    """The digits' five experiences; more or fewer with another increment."""
    scenario, config = scenarios.load("digits")
    return scenario(config(increment=increment, setting=setting)).stream(seed)


def instructions(adapter: AdapterConfig | None = None, model: str = EMBEDDED_CAUSAL, **values: Any) -> Scenario:
    """Tasks on letters and digits, with few examples, and the model that learns them."""
    scenario, config = scenarios.load("instructions")
    small = {"train_per_task": 64, "test_per_task": 8, **values}
    return scenario(config(**small), model=ModelConfig(model, adapter=adapter or AdapterConfig()))


def editing(**values: Any) -> Scenario:
    """A few facts of the world to edit, two at a time, and the model that knows them."""
    scenario, config = scenarios.load("edits")
    small = {"edits": 6, "per_experience": 2, "unedited": 4, "questions": 6, **values}
    return scenario(config(**small), model=ModelConfig(EMBEDDED_WORLD))


def edits(seed: int = 0, **values: Any) -> Stream:
    """A stream of `editing`."""
    return editing(**values).stream(seed)


def scenario_for(name: str, **values: Any) -> Scenario:
    """`instructions` with the adapters that a strategy needs."""
    rank = 4 if strategies.load(name)[0].low_rank else 0
    return instructions(AdapterConfig(rank=rank), preferences=name == "dpo", **values)


def shortened(experience: Experience, examples: int) -> Experience:
    """The same experience with its first training examples only, where it has more."""
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
    if setting is Setting.INSTRUCTION:
        return scenario_for(name).stream(seed)
    if setting is Setting.EDITING:
        return edits(seed)
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
    """A strategy, ready to learn ``stream`` with one pass over each experience; its class depends on the name."""
    skip_without_package(name)
    _, config = strategies.load(name)
    values = {field.name: 1 for field in fields(config) if field.name.endswith("epochs")} | values
    if stream.setting.in_words:
        scenario = editing() if stream.setting is Setting.EDITING else scenario_for(name)
        values = {**starts(config, scenario.training), **values}
        told = text_problem(scenario, stream, seed)
    else:
        told = problem(stream, seed, model or backbone_for(name))
    with isolated(seed, "initialise"):
        return strategies.build(config(**values), told)
