"""How a learner is asked and how its answers are scored. Nothing here is ever shown to it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from clbench.table import Batch


class Answers(ABC):
    """What the right answers of a stream are."""

    @abstractmethod
    def question(self, batch: Batch) -> Batch:
        """The part of a test batch that a learner may see."""

    @abstractmethod
    def scores(self, predictions: Tensor, batch: Batch) -> Sequence[float]:
        """One number in [0, 1] per example; 0 and 1 only where answers are right or wrong.

        Args:
            predictions: what `Strategy.predict` gave, (N, ...) int64.
            batch: the test batch, whole.
        """

    def transcript(self, predictions: Tensor, batch: Batch) -> list[dict[str, str]]:
        """Questions and answers for people to read; empty where there is nothing to read."""
        return []

    def conditions(self) -> Mapping[str, Any]:
        """How answers come about, as JSON values: what stands at the head of what is kept of them."""
        return {}


@dataclass(frozen=True)
class ClassAnswers(Answers):
    """Classes: right where the label is met.

    Attributes:
        told: show the learner which experience an example belongs to.
    """

    told: bool = False

    def question(self, batch: Batch) -> Batch:
        """All but ``label``, and but ``task`` where it is not told."""
        hidden = {"label"} if self.told else {"label", "task"}
        return {name: column for name, column in batch.items() if name not in hidden}

    def scores(self, predictions: Tensor, batch: Batch) -> list[int]:
        """1 where the class is right."""
        right: list[int] = (predictions == batch["label"]).int().tolist()
        return right
