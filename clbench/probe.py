"""Probes: abilities that no experience trains, measured before the first and after each experience."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from enum import Enum
from typing import Any, NamedTuple

from torch import Tensor

from clbench.table import Batch, Source, Table
from clbench.texts.answers import Answers
from clbench.texts.tokens import rows_at_once

BATCH = 256  # rows per call, at most
TOKENS = 4096  # per call: a likelihood takes the logits of all of them


class Unit(Enum):
    """What a probe counts."""

    ACCURACY = "accuracy"  # of an ability that is to stay: sum of scores in [0, 1] over so many examples
    GAIN = "gain"  # likewise, of what is to come with the experiences
    RESIDUE = "residue"  # likewise, of what is to go
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
    def measure(self, strategy: Any, after: int = 0) -> Probed:
        """Ask a `clbench.strategy.Strategy`, which learns nothing from it.

        Args:
            strategy: what answers.
            after: experiences learnt so far, for probes about what has arrived; 0 = before any training, all of it.
        """


class ArrivingProbe(Probe):
    """A probe of rows that may arrive with the experiences: then it is asked about those that have been learnt.

    Args:
        name: for tables.
        source: its rows.
        unit: what it counts.
        arrivals: index (N,) int64 of the experience with which each row arrives; all are there from the start where
            None.
    """

    def __init__(self, name: str, source: Source, unit: Unit = Unit.ACCURACY, arrivals: Tensor | None = None) -> None:
        self.name, self.unit, self.arrivals = name, unit, arrivals
        self.table = Table(source)

    def measure(self, strategy: Any, after: int = 0) -> Probed:
        """Sum of scores over rows."""
        table = self.table if self.arrivals is None or not after else self.table.select(self.arrivals < after)
        batches = table.batches(rows_at_once(table.source.columns, BATCH))
        return Probed(sum(sum(self.scores(strategy, batch)) for batch in batches), len(table))

    @abstractmethod
    def scores(self, strategy: Any, batch: Batch) -> Sequence[float]:
        """One number in [0, 1] per row."""


class AnswerProbe(ArrivingProbe):
    """The share of questions that are still answered.

    Args:
        name: for tables.
        source: what ``answers`` asks and scores.
        answers: how questions are asked and scored.
        unit: see `ArrivingProbe`.
        arrivals: see `ArrivingProbe`.
    """

    def __init__(
        self,
        name: str,
        source: Source,
        answers: Answers,
        unit: Unit = Unit.ACCURACY,
        arrivals: Tensor | None = None,
    ) -> None:
        super().__init__(name, source, unit, arrivals)
        self.answers = answers

    def scores(self, strategy: Any, batch: Batch) -> Sequence[float]:
        """Those of the answers that are generated."""
        return self.answers.scores(strategy.predict(self.answers.question(batch)), batch)


class TeacherForcedProbe(ArrivingProbe):
    """The share of an answer's tokens that are the likeliest, each after the right ones before it, EOS aside.

    What many papers on editing report: it overstates what is generated freely, where a wrong token stays wrong.
    """

    def scores(self, strategy: Any, batch: Batch) -> Sequence[float]:
        """Those of `clbench.strategy.Strategy.token_matches`."""
        matches: list[float] = strategy.token_matches(batch).tolist()
        return matches


class LikelihoodProbe(Probe):
    """How likely texts, or answers, still are.

    Args:
        name: for tables.
        source: columns of `clbench.texts.tokens`.
    """

    unit = Unit.LOG_LIKELIHOOD

    def __init__(self, name: str, source: Source) -> None:
        self.name, self.table = name, Table(source)
        longest = max(1, source.columns["tokens"].shape[1])
        self.rows = max(1, min(BATCH, TOKENS // longest))

    def measure(self, strategy: Any, after: int = 0) -> Probed:
        """Sum of log-likelihoods over tokens."""
        total, count = 0.0, 0
        for batch in self.table.batches(self.rows):
            likelihoods, lengths = strategy.log_likelihoods(batch)
            total, count = total + float(likelihoods.double().sum()), count + int(lengths.sum())
        return Probed(total, count)
