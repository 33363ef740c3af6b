"""Linear probe: one layer on frozen features, each experience training its own classes' rows.

With W the rows of the head (``model.head``: linear, or cosine with a learnt scale), phi the frozen backbone and C the
classes of the experience, each step descends

    cross-entropy of softmax over j in C of W_j phi(x)

on cached features of unaugmented images. The rows of other classes stay as they are, to the bit: weight decay does not
reach them either. All rows compete when it answers, though rows of different experiences never met in training: the
distance to RanPAC (arXiv 2307.02251) and SLCA (arXiv 2303.05118) is what aligning them is worth.

``joint=true`` trains a fresh head on all examples seen so far, at each experience, by the cross-entropy over all their
classes: what a linear head on frozen features can reach at most. Defaults are those of RanPAC's code for its joint
probe (constant learning rate 0.01, momentum 0.9, weight decay 5e-4, 30 epochs of batches of 128; its head is
``model.head=cosine``, and it augments images). There is no paper of the continual one.
Certificate: no published number is reproduced yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from clbench.finetune import FineTuneClassifier, FineTuneConfig, Schedule
from clbench.memory import SeenRows
from clbench.models.classifier import local_cross_entropy
from clbench.scenario import Experience
from clbench.space import LogUniform, searched
from clbench.strategy import Problem, strategies
from clbench.table import Batch, Table


@dataclass
class LinearProbeConfig(FineTuneConfig):
    """The shared fields, and what the head learns from."""

    epochs: int = 30  # passes over each experience, or over all that was seen
    batch_size: int = 128  # examples per step
    lr: float = searched(0.01, LogUniform(1e-3, 0.3))  # learning rate at the start of each experience
    weight_decay: float = searched(5e-4, LogUniform(1e-5, 1e-2))  # of the rows in training
    schedule: Schedule = Schedule.CONSTANT  # course of the learning rate within one experience
    joint: bool = False  # a fresh head on all examples seen so far, at each experience: an upper bound

    def __post_init__(self) -> None:
        super().__post_init__()
        self.memory.require_none("for linear_probe")


@strategies.register(LinearProbeConfig)
class LinearProbe(FineTuneClassifier):
    """The loop over cached features, with the head alone to train."""

    pretrained: ClassVar[bool] = True
    config: LinearProbeConfig

    def __init__(self, config: LinearProbeConfig, problem: Problem) -> None:
        super().__init__(config, problem)
        self.model.backbone.requires_grad_(False)
        self.classes = slice(0, 0)  # of the experience being learnt
        self.before: list[tuple[Tensor, Tensor]] = []  # parameters with a row for each class, and their values
        self.seen = SeenRows()  # none unless joint

    @classmethod
    def reads(cls, config: LinearProbeConfig) -> frozenset[str]:
        """Features only."""
        return frozenset({"feature"})

    def learn(self, experience: Experience) -> None:
        """Learn this experience; where joint, all before it too."""
        if self.config.joint and len(self.seen):
            head = self.model.head
            self.model.head = type(head)(head.weight.shape[1], 0)
        super().learn(experience)

    def begin(self, experience: Experience) -> None:
        """Remember the rows that are to stay."""
        self.classes = slice(experience.classes[0], experience.classes[-1] + 1)
        rows = [p for p in self.model.head.parameters() if p.ndim]
        self.before = [] if self.config.joint else [(p, p.detach().clone()) for p in rows]

    def training_table(self, experience: Experience) -> Table:
        """The new rows; where joint, all seen so far."""
        return self.seen.with_all_of(experience.train) if self.config.joint else experience.train

    def loss(self, batch: Batch) -> Tensor:
        """Cross-entropy over the classes of the experience; where joint, over all."""
        if self.config.joint:
            return super().loss(batch)
        return local_cross_entropy(self.model.all_logits(batch), batch["label"], self.classes)

    @torch.no_grad()
    def after_step(self) -> None:
        """Undo what weight decay did to the rows of other classes."""
        for parameter, before in self.before:
            parameter[: self.classes.start] = before[: self.classes.start]
            parameter[self.classes.stop :] = before[self.classes.stop :]

    def end(self, experience: Experience) -> None:
        """Let the remembered rows go."""
        self.before = []

    def stored_bytes(self) -> int:
        """Bytes of every example kept: none unless joint."""
        return self.seen.stored_bytes()

    def state(self) -> dict[str, Any]:
        """The model, and which examples were seen."""
        return {**super().state(), **self.seen.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on as the strategy whose `state` this is would."""
        super().restore(state)
        self.seen.restore(state)
