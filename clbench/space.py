"""Ranges of hyper-parameters, written beside the defaults they belong to.

``lr: float = searched(0.1, LogUniform(1e-3, 1.0))`` is a config field with a default and the range that a protocol
may draw from. The ranges know nothing of the library that samples them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields, replace
from enum import Enum
from typing import Any, TypeVar

from clbench.errors import ConfigError

C = TypeVar("C")


@dataclass(frozen=True)
class Uniform:
    """Real numbers in [low, high]."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class LogUniform:
    """Positive real numbers in [low, high], uniform in their logarithm."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}, logarithmically"


@dataclass(frozen=True)
class Choice:
    """One of a few values."""

    values: tuple[Any, ...]

    def __str__(self) -> str:
        return " or ".join(str(value.value if isinstance(value, Enum) else value) for value in self.values)


Range = Uniform | LogUniform | Choice


class Sampler(Enum):
    """How a protocol that searches draws from the ranges."""

    RANDOM = "random"
    TPE = "tpe"  # tree-structured Parzen estimator (Bergstra et al. 2011)


def searched(default: Any, range_: Range) -> Any:
    """A dataclass field with its default and the range it is searched in."""
    return field(default=default, metadata={"range": range_})


def ranges(config: Any, training: Mapping[str, Any] | None = None) -> dict[str, Range]:
    """The searched fields of a config and their ranges, in the order of their declaration.

    Args:
        config: a dataclass, or an instance of one.
        training: of the scenario, which decides for the fields that it names: they have its range, or none.
    """
    own = {name: f.metadata if isinstance(f, Field) else {} for name, f in (training or {}).items()}
    searched = {f.name: own.get(f.name, f.metadata) for f in fields(config)}
    return {name: metadata["range"] for name, metadata in searched.items() if "range" in metadata}


def starts(config: Any, training: Mapping[str, Any]) -> dict[str, Any]:
    """The values with which a scenario has fields of a strategy's config begin, by field."""
    known = {f.name for f in fields(config)}
    given = {name: f.default if isinstance(f, Field) else f for name, f in training.items()}
    return {name: value for name, value in given.items() if name in known}


def with_values(config: C, values: dict[str, Any]) -> C:
    """A copy of ``config`` with the values of some fields exchanged; its own checks run again."""
    return replace(config, **values)  # type: ignore[type-var]


def require(holds: bool, name: str, rule: str, value: object) -> None:
    """Check one field of a config.

    Raises:
        ConfigError: the rule does not hold; the message names field, rule and value.
    """
    if not holds:
        raise ConfigError(f"{name} must be {rule}, got {value}")
