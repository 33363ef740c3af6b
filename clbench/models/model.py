"""What the loop and the strategies ask of a model, whatever it reads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from clbench.table import Batch, Table


class Model(nn.Module, ABC):
    """From batches to scores of possible answers, a loss, and answers.

    A *decision* is one choice of the model among its outputs: an image's class, the next token of an answer. N examples
    make M decisions: M = N for images, for texts the tokens of all answers together.
    """

    backbone: nn.Module
    """All but the head, with the repeated blocks."""

    task_of_class: Tensor | None
    """Of every output, the experience that it belongs to, where examples tell theirs."""

    @property
    @abstractmethod
    def outputs(self) -> int:
        """Classes, or tasks, that it has met."""

    @abstractmethod
    def grow(self, outputs: int) -> None:
        """Make room for ``outputs`` classes; what was there stays as it is."""

    def meet(self, table: Table) -> None:
        """Look at an experience's training rows before it is learnt; nothing to do for most models."""

    @abstractmethod
    def features(self, batch: Batch) -> Tensor:
        """What the backbone makes of each example, (N, F)."""

    def decisions(self, batch: Batch) -> int | Tensor:
        """M of a batch, (): as many as examples, where a model does not say otherwise."""
        return len(next(iter(batch.values())))

    @abstractmethod
    def all_logits(self, batch: Batch) -> Tensor:
        """Scores (M, outputs) float32 of every output in every decision."""

    @abstractmethod
    def cross_entropy(self, logits: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy of `all_logits` with the right answers, mean over the decisions, ()."""

    @abstractmethod
    def new_cross_entropy(self, logits: Tensor, batch: Batch, old: int) -> Tensor:
        """As `cross_entropy`, among those outputs only that are newer than the first ``old``."""

    @abstractmethod
    def old_groups(self, old: int) -> list[slice]:
        """Outputs that share a softmax, among those that the model had when it had met ``old`` classes."""

    def loss(self, batch: Batch) -> Tensor:
        """Cross-entropy with the right answers, mean over the decisions, ()."""
        return self.cross_entropy(self.all_logits(batch), batch)

    def forward(self, batch: Batch) -> Tensor:
        """The same as `loss`: what torch's functional transforms and parallel wrappers call."""
        return self.loss(batch)

    @abstractmethod
    def predict(self, batch: Batch) -> Tensor:
        """Answers (N, ...) int64; without gradients, in the mode the model is in."""

    def log_likelihoods(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Log-likelihood (N,) of each example's answer, in nats, and its number of decisions (N,)."""
        raise NotImplementedError(f"{type(self).__name__} gives no likelihoods")

    def token_matches(self, batch: Batch) -> Tensor:
        """Share (N,) of each answer's decisions that are right where all before them are given."""
        raise NotImplementedError(f"{type(self).__name__} gives no tokens")

    def learnt_state(self) -> dict[str, Any]:
        """All that learning can change, as `clbench.strategy.Strategy.state` keeps it."""
        return self.state_dict()

    def restore_learnt(self, state: dict[str, Any]) -> None:
        """Become the model whose `learnt_state` this is."""
        self.load_state_dict(state)
