"""Small real streams and strategies for tests: scikit-learn's digits, a network of a few thousand parameters."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
import torch

from clbench.features import with_features
from clbench.models.classifier import Classifier, build_classifier
from clbench.models.config import ModelConfig
from clbench.record import Setting
from clbench.scenario import Experience, Stream, scenarios
from clbench.seeding import isolated
from clbench.strategy import Problem, strategies


def skip_without_package(name: str) -> None:
    """Skip the test where a plugin needs a package that is not installed."""
    if name == "avalanche":
        pytest.importorskip("avalanche", reason="Avalanche is not installed")


def digits(setting: Setting = Setting.CLASS_INCREMENTAL, seed: int = 0, increment: int = 2) -> Stream:
    """The digits' five experiences; more or fewer with another increment."""
    scenario, config = scenarios.load("digits")
    return scenario(config(increment=increment, setting=setting)).stream(seed)


def shortened(experience: Experience, examples: int) -> Experience:
    """The same experience with its first training examples only."""
    return replace(experience, train=experience.train.select(torch.arange(examples)))


def stream_for(
    name: str,
    setting: Setting = Setting.CLASS_INCREMENTAL,
    seed: int = 0,
    increment: int = 2,
    model: str | None = None,
    **values: Any,
) -> Stream:
    """The digits, with the columns that a strategy reads; features are those of the backbone of seed 0."""
    skip_without_package(name)
    method, config = strategies.load(name)
    stream, columns = digits(setting, seed, increment), method.reads(config(**values))
    if "feature" not in columns:
        return stream
    backbone = problem(stream, model=model or backbone_for(name)).model()
    return with_features(stream, backbone, torch.device("cpu"), images="image" in columns)


def backbone_for(name: str) -> str:
    """A small backbone that a strategy can take."""
    return "small_vit" if strategies.load(name)[0].pretrained else "small_cnn"


def problem(stream: Stream, seed: int = 0, model: str = "small_cnn", width: int = 4) -> Problem:
    """What a strategy is told about ``stream``."""
    tasks = stream.task_of_class if stream.setting is Setting.TASK_INCREMENTAL else None
    config = ModelConfig(name=model, width=width)

    def fresh() -> Classifier:
        with isolated(seed, "initialise"):
            classifier = build_classifier(config, stream.shape, model, tasks)
            classifier.grow(len(tasks or ()))
            return classifier

    return Problem(fresh, stream.transform, stream.setting, torch.device("cpu"), seed)


def strategy(name: str, stream: Stream, /, seed: int = 0, model: str | None = None, **values: Any) -> Any:
    """A strategy, ready to learn ``stream`` with one pass over each experience; its class depends on the name."""
    skip_without_package(name)
    _, config = strategies.load(name)
    once = {field.name: 1 for field in fields(config) if field.name.endswith("epochs")}
    with isolated(seed, "initialise"):
        return strategies.build(config(**once | values), problem(stream, seed, model or backbone_for(name)))
