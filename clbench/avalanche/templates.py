"""Avalanche's strategy templates: which can be run here, what they may be told, how they are built and written down."""

from __future__ import annotations

import contextlib
import difflib
import inspect
import math
import typing
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import torch
from avalanche.training import supervised
from avalanche.training.templates.base import BaseTemplate
from torch import nn

from clbench.avalanche.data import DatasetCoder, Images
from clbench.avalanche.network import NetworkCoder, network
from clbench.errors import ConfigError
from clbench.freezer import Freezer
from clbench.models.classifier import Classifier
from clbench.registry import unknown
from clbench.strategy import Problem

TEMPLATES: dict[str, dict[str, Any]] = {
    "AGEM": {"patterns_per_exp": 64},
    "Cumulative": {},
    "ER_ACE": {},
    "EWC": {"ewc_lambda": 1.0},
    "FromScratchTraining": {},
    "GDumb": {},
    "LwF": {"alpha": 1.0, "temperature": 2.0},
    "MAS": {},
    "MIR": {"mem_size": 200, "subsample": 50, "batch_size_mem": 10},
    "Naive": {},
    "Replay": {},
    "SynapticIntelligence": {"si_lambda": 1.0},
}
"""Templates whose resumed runs are tested to end with the same bits, and defaults for what has none in Avalanche."""

REFUSED = {
    "it wants a network of its own kind": (
        "AETraining AR1 CoPE ER_AML ExpertGateStrategy FeatureReplay GenerativeReplay ICaRL LFL "
        "LearningToPrompt PNNStrategy PackNet SCR StreamingLDA VAETraining"
    ),
    "what it keeps cannot be written to a checkpoint": "CWRStar",
    "it takes no head that grows": "DER",
    "it cannot take Avalanche's own new kind of experience": "BiC",
    "it must be told the shape of the images": "GSS_greedy",
    "it is trained once, on the whole stream; strategy=joint is our bound": "JointTraining",
    "it trains on single examples, which batch norm cannot": "MER",
    "it wants a solver of quadratic programmes": "GEM",
}
"""Why the others cannot be run, by reason."""

OURS = {
    "train_mb_size": "strategy.batch_size",
    "train_epochs": "strategy.epochs",
    "optimizer": "strategy.lr, momentum and weight_decay",
    "model": "model.name",
    "device": "device",
}
"""Arguments of every template that are fields of ours."""

KINDS = {
    int: "a whole number from 1",
    float: "a number from 0",
    str: "a word",
    bool: "true or false",
    type(None): "null",
}
"""What an argument may be, by the type that its template declares."""

DECIDED = {*OURS, "criterion", "eval_mb_size", "plugins", "evaluator", "eval_every", "peval_mode"}


def names() -> list[str]:
    """Every template of Avalanche, sorted, whether it can be run here or not."""
    found = vars(supervised).items()
    return sorted(n for n, value in found if isinstance(value, type) and issubclass(value, BaseTemplate))


def arguments(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """The arguments that a template is built with: those given, and the defaults where Avalanche has none.

    Raises:
        UnknownNameError: no template has this name.
        ConfigError: the template cannot be run here, or an argument is unknown or of the wrong type.
    """
    if name not in names():
        raise unknown("Avalanche strategy", name, sorted(TEMPLATES))
    if name not in TEMPLATES:
        reasons = [reason for reason, refused in REFUSED.items() if name in refused.split()]
        reason = reasons[0] if reasons else "it has not been tested here"
        raise ConfigError(f"Avalanche's {name} cannot be run here: {reason}. There are: {', '.join(sorted(TEMPLATES))}")
    signature = inspect.signature(getattr(supervised, name)).parameters
    accepted = {n: p for n, p in signature.items() if p.kind is p.KEYWORD_ONLY and n not in DECIDED}
    for key, value in given.items():
        _check(name, key, value, accepted)
    return TEMPLATES[name] | given


def _check(name: str, key: str, value: Any, accepted: dict[str, inspect.Parameter]) -> None:
    field = f"strategy.arguments.{key}"
    if key in DECIDED:
        raise ConfigError(f"{field} is decided by clbench" + (f"; set {OURS[key]} instead" if key in OURS else ""))
    if key not in accepted:
        near = difflib.get_close_matches(key, accepted, n=2, cutoff=0.5)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise ConfigError(f"Avalanche's {name} takes no argument {key!r}.{hint} It takes: {', '.join(accepted) or '-'}")
    kinds = _kinds(accepted[key].annotation)
    if not any(_fits(value, kind) for kind in kinds):
        raise ConfigError(f"{field} must be {' or '.join(KINDS[kind] for kind in kinds)}, got {value!r}")


def _kinds(annotation: Any) -> list[type]:
    """The plain types among those that an argument may have: a list by experience is more than a run can check."""
    return [kind for kind in typing.get_args(annotation) or (annotation,) if kind in KINDS]


def _fits(value: Any, kind: type) -> bool:
    if kind is int:
        return type(value) is int and value >= 1
    if kind is float:
        return type(value) in (int, float) and 0 <= float(value) < math.inf
    return type(value) is kind


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings that Avalanche gives of itself; where it lifts the filter, they are caught instead."""
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("ignore")
        yield


def build(name: str, given: dict[str, Any], classifier: Classifier, settings: Mapping[str, Any]) -> Any:
    """A template, ready to train.

    Args:
        name: of the template.
        given: its own arguments, checked by `arguments`.
        classifier: on its device; without outputs where class-incremental.
        settings: ``epochs``, ``batch_size``, ``lr``, ``momentum`` and ``weight_decay``.

    Raises:
        ConfigError: the template refuses its arguments.
    """
    model = network(classifier)
    sgd = {key: settings[key] for key in ("lr", "momentum", "weight_decay")}
    try:
        with quiet():
            return getattr(supervised, name)(
                model=model,
                optimizer=torch.optim.SGD(model.parameters(), **sgd),
                criterion=nn.CrossEntropyLoss(),
                train_mb_size=settings["batch_size"],
                train_epochs=settings["epochs"],
                device=next(model.parameters()).device,
                evaluator=None,
                **given,
            )
    except (AssertionError, TypeError, ValueError) as error:
        said = str(error).partition("\n")[0] or type(error).__name__
        raise ConfigError(f"Avalanche's {name} refuses its arguments {given}: {said}") from error


def freezer(problem: Problem, images: Images) -> Freezer:
    """What writes a template, with all that it keeps, as plain values, and reads it again."""
    coders = (DatasetCoder(images, problem.transform), NetworkCoder(cast(Callable[[], Classifier], problem.model)))
    return Freezer(("avalanche", "torch"), coders)
