"""Probes: abilities that no experience trains, measured before the first and after each experience."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum
from typing import Any, NamedTuple

from clbench.answers import Answers
from clbench.table import Source, Table
from clbench.tokens import rows_at_once

BATCH = 256  # rows per call, at most
TOKENS = 4096  # per call: a likelihood takes the logits of all of them


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


class AnswerProbe(Probe):
    """The share of questions that are still answered.

    Args:
        name: for tables.
        source: what ``answers`` asks and scores.
        answers: how questions are asked and scored.
    """

    unit = Unit.ACCURACY

    def __init__(self, name: str, source: Source, answers: Answers) -> None:
        self.name, self.table, self.answers = name, Table(source), answers

    def measure(self, strategy: Any) -> Probed:
        """Sum of scores over questions."""
        total = 0.0
        for batch in self.table.batches(rows_at_once(self.table.source.columns, BATCH)):
            total += sum(self.answers.scores(strategy.predict(self.answers.question(batch)), batch))
        return Probed(total, len(self.table))


class LikelihoodProbe(Probe):
    """How likely texts, or answers, still are.

    Args:
        name: for tables.
        source: columns of `clbench.tokens`.
    """

    unit = Unit.LOG_LIKELIHOOD

    def __init__(self, name: str, source: Source) -> None:
        self.name, self.table = name, Table(source)
        longest = max(1, source.columns["tokens"].shape[1])
        self.rows = max(1, min(BATCH, TOKENS // longest))

    def measure(self, strategy: Any) -> Probed:
        """Sum of log-likelihoods over tokens."""
        total, count = 0.0, 0
        for batch in self.table.batches(self.rows):
            likelihoods, lengths = strategy.log_likelihoods(batch)
            total, count = total + float(likelihoods.double().sum()), count + int(lengths.sum())
        return Probed(total, count)
