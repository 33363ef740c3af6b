"""SLCA: a slow learner for the backbone, and a classifier aligned on Gaussians of its classes.

Zhang et al. 2023, arXiv 2303.05118, sections 3.2 and 3.3. The whole network trains on the cross-entropy over the new
outputs alone, the backbone ``backbone_rate`` times as fast as the head; rows of old classes stay as they are. After
experience t, each new class leaves the mean and the covariance of its features (`clbench.images.gaussians`), which are
not brought up to date later. From the second experience on, all rows then train on samples of all classes
(`clbench.images.alignment`), the mean of a class of experience s scaled to

    (1 - decay (1 - (s + 1) / (t + 1))) mean,         cross-entropy of   z / (temperature * mean over s of |z_s|)

with z_s the logits of experience s's classes. Answers come from the aligned rows; before the next experience the rows
go back to what they were before the alignment, so each alignment begins from what training left.

What differs from the authors' code: samples carry N(0, 1e-4 I) beside the covariance itself, which is not factorised
(the same distribution); the alignment has a learning rate of its own, whose default equals theirs; experiences may
differ in size, where the code takes a class's experience from the size of the newest. The method needs no transformer.
In a task-incremental stream the alignment still runs over all classes together, and the example's own task is asked.
Defaults are those for CIFAR-100; the ranges are ours. Certificate: no published number is reproduced yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clbench import seeding
from clbench.finetune import FineTuneClassifier, FineTuneConfig, Schedule
from clbench.images.alignment import align
from clbench.images.gaussians import ClassGaussians, Covariance
from clbench.models.head import LinearHead
from clbench.scenario import Experience
from clbench.space import Choice, LogUniform, require, searched
from clbench.strategy import Problem, strategies
from clbench.table import Batch

WEIGHT_DECAYS = Choice((1e-4, 5e-4, 1e-3, 5e-3))


@dataclass
class SLCAConfig(FineTuneConfig):
    """The shared fields, with the authors' values, and those of the slow learner and of the alignment."""

    epochs: int = 20  # passes over each experience
    batch_size: int = 128  # examples per step
    lr: float = searched(0.01, LogUniform(2e-3, 5e-2))  # learning rate of the head
    weight_decay: float = searched(5e-4, WEIGHT_DECAYS)  # L2 penalty, in training and in alignment
    schedule: Schedule = Schedule.LATE_STEP  # course of the learning rate within one experience
    backbone_rate: float = searched(0.01, LogUniform(1e-3, 0.1))  # learning rate of the backbone over the head's
    covariance: Covariance = Covariance.FULL  # what is kept of a class's covariance
    align_epochs: int = 5  # of the alignment, each with fresh samples; 0: no alignment
    align_samples: int = 256  # per class and epoch, and per batch
    align_lr: float = 0.01  # learning rate at the start of each alignment
    decay: float = 0.1  # how much shorter the mean of the oldest classes gets
    temperature: float | None = 0.1  # of the normalised logits; null: the logits as they are

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.backbone_rate >= 0, "strategy.backbone_rate", ">= 0", self.backbone_rate)
        require(self.align_epochs >= 0, "strategy.align_epochs", ">= 0", self.align_epochs)
        require(self.align_samples >= 1, "strategy.align_samples", ">= 1", self.align_samples)
        require(self.align_lr > 0, "strategy.align_lr", "> 0", self.align_lr)
        require(0 <= self.decay <= 1, "strategy.decay", "in [0, 1]", self.decay)
        allowed = self.temperature is None or self.temperature > 0
        require(allowed, "strategy.temperature", "> 0 or null", self.temperature)
        self.memory.require_none("for slca")


def decayed(mean: Tensor, sizes: list[int], decay: float) -> Tensor:
    """Class means, shorter the older a class is.

    Args:
        mean: (C, F) float.
        sizes: classes of each experience, C in all.
        decay: what the factor of an infinitely old class lacks to 1; the newest classes' factor is 1.

    Returns:
        (C, F).
    """
    age = torch.arange(1, len(sizes) + 1).repeat_interleave(torch.tensor(sizes)).to(mean) / len(sizes)
    return mean * (1 - decay * (1 - age))[:, None]


def normalised(logits: Tensor, sizes: list[int], temperature: float) -> Tensor:
    """Logits over ``temperature`` times their mean norm, the mean over experiences of the norm of each one's logits.

    Args:
        logits: (N, C) float.
        sizes: classes of each experience, C in all.
        temperature: above 0.

    Returns:
        (N, C).
    """
    norms = torch.stack([part.norm(dim=1) for part in logits.split(sizes, dim=1)], dim=1) + 1e-7
    return logits / (temperature * norms.mean(1, keepdim=True))


@strategies.register(SLCAConfig)
class SLCA(FineTuneClassifier):
    """The loop at two speeds, then the alignment; Gaussians and the rows before alignment are auxiliary tensors."""

    config: SLCAConfig
    pretrained: ClassVar[bool] = True

    def __init__(self, config: SLCAConfig, problem: Problem) -> None:
        super().__init__(config, problem)
        self.gaussians = ClassGaussians(config.covariance)
        self.sizes: list[int] = []  # classes of each experience
        self.new: list[nn.Parameter] = []  # weight and bias of the new classes while they train

    @classmethod
    def skip(cls, config: SLCAConfig, problem: Problem) -> str | None:
        """The alignment trains weights and biases."""
        linear = isinstance(problem.model().head, LinearHead)
        return None if linear else "it aligns a linear head, so it needs model.head=linear"

    @property
    def rows(self) -> tuple[nn.Parameter, nn.Parameter]:
        """The head's weight (C, F) and bias (C,)."""
        return self.model.head.weight, self.model.head.bias  # type: ignore[return-value]

    @torch.no_grad()
    def begin(self, experience: Experience) -> None:
        """Undo the alignment; set the new classes' rows apart, so that weight decay cannot reach the old ones."""
        for name, row in zip(("head_weight", "head_bias"), self.rows, strict=True):
            if name in self.auxiliary:
                row[: len(self.auxiliary[name])] = self.auxiliary[name]
        first, last = experience.classes[0], experience.classes[-1] + 1
        self.new = [nn.Parameter(row[first:last].clone()) for row in self.rows]
        self.sizes.append(last - first)

    def parameter_groups(self) -> list[tuple[list[nn.Parameter], float]]:
        """The backbone, slowly, and the new classes' rows."""
        return [(list(self.model.backbone.parameters()), self.config.backbone_rate), (self.new, 1.0)]

    def loss(self, batch: Batch) -> Tensor:
        """Cross-entropy over the new outputs."""
        logits = F.linear(self.model.features(batch), *self.new).float()
        return F.cross_entropy(logits, batch["label"] - sum(self.sizes[:-1]))

    def end(self, experience: Experience) -> None:
        """Put the new rows in their place, take the new classes' Gaussians, and align."""
        first, last = experience.classes[0], experience.classes[-1] + 1
        with torch.no_grad():
            for name, row, new in zip(("head_weight", "head_bias"), self.rows, self.new, strict=True):
                row[first:last] = new
                self.auxiliary[name] = row[:last].detach().clone()
        self.new = []
        features, labels = self.features(experience.train), experience.train.column("label")
        for label in experience.classes:
            self.gaussians.add(features[labels == label])
        self.auxiliary |= self.gaussians.tensors()
        if len(self.sizes) > 1:
            self._align(experience.index)

    def _align(self, index: int) -> None:
        config, sizes, temperature = self.config, self.sizes, self.config.temperature

        def loss(logits: Tensor, labels: Tensor) -> Tensor:
            return F.cross_entropy(logits if temperature is None else normalised(logits, sizes, temperature), labels)

        align(
            self.model.head,  # type: ignore[arg-type]
            self.gaussians,
            epochs=config.align_epochs,
            lr=config.align_lr,
            samples=config.align_samples,
            weight_decay=config.weight_decay,
            generator=seeding.generator(self.problem.seed, "align", index, device=self.problem.device),
            mean=decayed(self.gaussians.mean, sizes, config.decay),
            loss=loss,
        )

    def state(self) -> dict[str, Any]:
        """The model, Gaussians, rows before alignment, and how many classes each experience had."""
        return {**super().state(), "sizes": list(self.sizes)}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on as the strategy whose `state` this is would."""
        super().restore(state)
        self.sizes = list(state["sizes"])
        self.gaussians.restore(self.auxiliary)
