"""Probes: abilities that no experience trains, measured before the first and after each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum
from typing import Any, NamedTuple


class Unit(Enum):
    """What a probe counts."""

    ACCURACY = "accuracy"  # sum of scores in [0, 1] over so many examples
    LOG_LIKELIHOOD = "log_likelihood"  # nats over so many tokens


class Probed(NamedTuple):
    """The outcome of one probe."""

    total: float  # sum of scores, or of log-likelihoods
    size: int  # examples, or tokens


class Probe(ABC):
    """One ability.

    Attributes:
        name: for tables and records.
        unit: what it counts.
    """

    name: str
    unit: Unit

    @abstractmethod
    def measure(self, strategy: Any) -> Probed:
        """Ask a `clbench.strategy.Strategy`, which learns nothing from it."""
