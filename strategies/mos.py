"""Model surgery (MOS): adapters per task, pulled together in training, chosen per image in answering.

Sun et al. 2025, "MOS: Model Surgery for Pre-Trained Model-Based Class-Incremental Learning", AAAI, arXiv 2412.09441.
A frozen vision transformer carries adapters A_t in every block (`clbench.models.adapters`). Task t trains A, begun as
A_{t-1}, and a linear head on

    cross-entropy over the task's own outputs + orthogonality * CE(M M^T / 0.8, identity)

with M the stored class means above the batch's features; the head learns at a tenth of the rate. Merging pulls A
towards the mean of the sets before it, with m = adapter_momentum: A <- (1 - m) A + m (A_0 + ... + A_{t-1}) / t.
Afterwards A_t is stored, each new class leaves a Gaussian of its features under A_t (`clbench.images.gaussians`), the
head is aligned on samples of all of them (`clbench.images.alignment`), and each new class leaves the mean of its
features under A_0.

Answering: the nearest of those means (cosine s, of features under A_0) names a first task k. The head's logits l of
features under A_k name a class, whose task is the next k, until it names itself, at most ``refinements`` times. Then

    answer = argmax softmax(l) + softmax((t + 1) s)        ensemble=false: argmax l

An image goes through A_0 and the sets it visits, not through all t + 1. With task identity its own task's set answers.

``merge`` decides when: after each optimiser step (the paper's rule), once at the ``task_end``, never (``none``), or
``reference``, which does what the released code does: it merges before every block of every forward pass, so that one
step of training pulls L + 1 times (L blocks), and takes the means under A_0 with dropout on for t >= 1. There, with the
default schedule, all sets end within 1e-3 of A_0 and the choice among them decides nothing. The released code merges in
evaluation too, so that measuring changes the model; nothing here does that, in any mode: stored sets never change.
What differs besides: the head grows with the classes, so its later rows feel no weight decay before they are learnt.
Certificate: no published number is reproduced yet; `tests/published` sets out CIFAR-100 B0 Inc5 (93.30 / 89.25).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from clbench import seeding
from clbench.finetune import EVALUATION_BATCH, FineTuneClassifier, FineTuneConfig, Schedule
from clbench.images.alignment import align
from clbench.images.gaussians import ClassGaussians, Covariance
from clbench.images.prototypes import class_means, cosines
from clbench.kernels.ema_merge import ema_merge_
from clbench.models.adapters import AdaptedTransformer, AdapterWeights, Begun
from clbench.models.classifier import local_cross_entropy
from clbench.models.head import LinearHead
from clbench.models.transformer import no_transformer, opened
from clbench.scenario import Experience
from clbench.space import Choice, LogUniform, require, searched
from clbench.strategy import Problem, strategies
from clbench.table import Batch, Table


class Merge(Enum):
    """When the adapters in training are pulled towards the mean of those before."""

    STEP = "step"  # after each optimiser step: the paper's rule
    TASK_END = "task_end"  # once, after the last step of a task
    NONE = "none"  # never
    REFERENCE = "reference"  # as the released code does: L + 1 times per step


@dataclass
class MOSConfig(FineTuneConfig):
    """The shared fields, with the released settings for CIFAR-100, and those of the method."""

    epochs: int = 20  # passes over each experience
    batch_size: int = 48  # examples per step
    lr: float = searched(0.03, LogUniform(3e-3, 0.1))  # of the adapters; the head's is a tenth
    weight_decay: float = searched(5e-4, LogUniform(1e-5, 1e-2))  # L2 penalty
    schedule: Schedule = Schedule.COSINE_EPOCHS  # course of the learning rate within one experience
    merge: Merge = Merge.STEP  # when adapters are pulled towards the mean of those before
    adapter_momentum: float = 0.1  # how far one pull goes
    warm_start: bool = True  # begin a task with the adapters of the one before; false: with fresh ones
    rank: int = searched(16, Choice((4, 8, 16, 32, 64)))  # numbers between an adapter's Down and Up
    scale: float = 0.1  # of an adapter's change
    dropout: float = 0.1  # within adapters in training
    orthogonality: float = 0.1  # weight of the term that keeps features apart from each other and from class means
    align: bool = True  # align the head after each task but the first
    align_epochs: int = 30  # of the alignment
    align_lr: float = 0.005  # at the start of the alignment
    align_samples: int | None = None  # drawn per class and epoch, and per step; null: 5 * batch_size
    covariance: Covariance = Covariance.FULL  # what is kept of a class's covariance
    refinements: int = 4  # most sets that an image is asked under; 0: no choice, A_0 for all
    ensemble: bool = True  # let the nearest mean under the first adapters have a say

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.adapter_momentum <= 1, "strategy.adapter_momentum", "in [0, 1]", self.adapter_momentum)
        require(self.rank >= 1, "strategy.rank", ">= 1", self.rank)
        require(0 <= self.dropout < 1, "strategy.dropout", "in [0, 1)", self.dropout)
        require(self.orthogonality >= 0, "strategy.orthogonality", ">= 0", self.orthogonality)
        require(self.align_epochs >= 1, "strategy.align_epochs", ">= 1", self.align_epochs)
        require(self.align_lr > 0, "strategy.align_lr", "> 0", self.align_lr)
        samples = self.align_samples
        require(samples is None or samples >= 1, "strategy.align_samples", ">= 1 or null", samples)
        require(self.refinements >= 0, "strategy.refinements", ">= 0", self.refinements)
        self.memory.require_none("for mos")


def pulled(weights: AdapterWeights, mean: AdapterWeights, momentum: float, times: int) -> AdapterWeights:
    """The weights after ``times`` pulls towards a fixed mean: one step of 1 - (1 - momentum)^times."""
    share = 1 - (1 - momentum) ** times
    return AdapterWeights(*(torch.lerp(w, m, share) for w, m in zip(weights, mean, strict=True)))


def orthogonality_loss(features: Tensor, means: Tensor) -> Tensor:
    """Each row's similarity with itself against those with all others, as a cross-entropy, ().

    Args:
        features: (N, F) float, of the batch.
        means: (C, F) float, of earlier classes, C >= 0.
    """
    rows = torch.cat((means.view(-1, features.shape[1]), features))
    with torch.autocast(rows.device.type, enabled=False):  # small differences of large squares drown in bfloat16
        similar = rows @ rows.T / 0.8
    return F.cross_entropy(similar, torch.arange(len(rows), device=rows.device))


class Answer(NamedTuple):
    """How a batch is answered.

    Attributes:
        near: (N, C) float, cosine with each class's mean under A_0; -inf where a class has none.
        logits: (N, C) float, under the last set of adapters asked.
        tasks: (N,) int64 each: named first by the nearest mean, then by each refinement.
    """

    near: Tensor
    logits: Tensor
    tasks: list[Tensor]


@strategies.register(MOSConfig)
class MOS(FineTuneClassifier):
    """The loop over one set of adapters and the head.

    Attributes:
        stored: the sets of all tasks learnt, four tensors of (L, T, ...); never written to.
        task_of_class: (C,) int64, of the classes learnt.
    """

    pretrained = True
    config: MOSConfig

    def __init__(self, config: MOSConfig, problem: Problem) -> None:
        super().__init__(config, problem)
        transformer = opened(self.model.backbone)
        head = self.model.head
        assert isinstance(head, LinearHead)
        self.head: LinearHead = head
        self.adapted = AdaptedTransformer(transformer, config.rank, config.scale, config.dropout)
        self.model.backbone = self.adapted
        self.gaussians = ClassGaussians(config.covariance)
        self.stored = AdapterWeights(*(w.detach()[:, None][:, :0] for w in self.adapted.weights))
        self.old = self.seen = 0  # outputs before and after the experience
        self.auxiliary["means"] = self.stored.up_bias.new_empty(0, transformer.width)
        self.auxiliary["task_of_class"] = torch.empty(0, dtype=torch.int64, device=problem.device)

    @classmethod
    def skip(cls, config: MOSConfig, problem: Problem) -> str | None:
        """It needs a vision transformer and a linear head."""
        model = problem.model()
        linear = isinstance(model.head, LinearHead)
        return no_transformer(model.backbone) or (None if linear else "it aligns a linear head; leave model.head out")

    @property
    def tasks(self) -> int:
        """Tasks learnt."""
        return self.stored.down_bias.shape[1]

    @property
    def task_of_class(self) -> Tensor:
        """Of each class learnt."""
        return self.auxiliary["task_of_class"]

    def begin(self, experience: Experience) -> None:
        """Initialise what is new."""
        self.old, self.seen = experience.classes[0], experience.classes[-1] + 1
        rows = slice(self.old, self.seen)
        torch.nn.init.trunc_normal_(self.head.weight.data[rows], std=0.02)
        torch.nn.init.zeros_(self.head.bias.data[rows])
        if not self.config.warm_start:
            self.adapted.reset()
        if self.tasks:
            self._mean = AdapterWeights(*(s.mean(1) for s in self.stored))

    def parameter_groups(self) -> list[tuple[list[torch.nn.Parameter], float]]:
        """The adapters, and the head at a tenth of their rate."""
        return [(self.adapted.adapters, 1.0), (list(self.head.parameters()), 0.1)]

    def loss(self, batch: Batch) -> Tensor:
        """Cross-entropy among the task's own classes, and orthogonality."""
        features = self.adapted.finish(self.adapted.begin(batch["image"]), self._in_training()).float()
        logits = self.head(features)
        loss = local_cross_entropy(logits, batch["label"], slice(self.old, self.seen))
        if self.config.orthogonality:
            loss = loss + self.config.orthogonality * orthogonality_loss(features, self.gaussians.mean.to(features))
        return loss

    def _in_training(self) -> AdapterWeights:
        weights = self.adapted.weights
        if self.config.merge is not Merge.REFERENCE or not self.tasks:
            return weights
        # Block i is passed after i + 1 of the L pulls of this forward pass. The gradient is taken there, and applied
        # to what all L pulls leave.
        with torch.no_grad():
            ahead = [pulled(weights, self._mean, self.config.adapter_momentum, i + 1) for i in range(len(weights[0]))]
            passed = [torch.stack([step[part][i] for i, step in enumerate(ahead)]) for part in range(4)]
            for weight, end in zip(self.adapted.adapters, ahead[-1], strict=True):
                weight.copy_(end)
        return AdapterWeights(*(w + (p - w.detach()) for w, p in zip(weights, passed, strict=True)))

    def after_step(self) -> None:
        """One pull, where the mode says so."""
        if self.config.merge in (Merge.STEP, Merge.REFERENCE):
            self._pull()

    def _pull(self) -> None:
        if self.tasks:
            ema_merge_(self.adapted.weights, self._mean, self.config.adapter_momentum)

    @torch.no_grad()
    def end(self, experience: Experience) -> None:
        """Store the adapters, the new classes' Gaussians and means; align the head."""
        if self.config.merge is Merge.TASK_END:
            self._pull()
        learnt = self.adapted.weights.copy()
        self.stored = AdapterWeights(*(torch.cat((s, w[:, None]), 1) for s, w in zip(self.stored, learnt, strict=True)))
        features, first = self._swept(experience.train)
        labels = experience.train.column("label")
        for label in experience.classes:
            self.gaussians.add(features[labels == label])
        means = class_means(first, labels, experience.classes)
        tasks = self.task_of_class.new_full((len(experience.classes),), self.tasks - 1)
        self.auxiliary |= self.gaussians.tensors() | {
            "means": torch.cat((self.auxiliary["means"], means)),
            "task_of_class": torch.cat((self.task_of_class, tasks)),
        }
        if self.config.align and self.tasks > 1:
            self._align(experience.index)

    def _swept(self, table: Table) -> tuple[Tensor, Tensor]:
        """Features (N, F) of a table's examples, not augmented, under the newest adapters and under the first."""
        newest, first = self._set(self.tasks - 1), self._set(0)
        found = []
        for stored in table.batches(EVALUATION_BATCH):
            self.adapted.eval()
            begun = self.adapted.begin(self.problem.transform.evaluate(stored)["image"])
            under = self.adapted.finish(begun, newest).float()
            self.adapted.train(self.config.merge is Merge.REFERENCE and self.tasks > 1)
            found.append((under, self.adapted.finish(begun, first).float()))
        features, means = zip(*found, strict=True)
        return torch.cat(features), torch.cat(means)

    def _set(self, task: int) -> AdapterWeights:
        return AdapterWeights(*(s[:, task] for s in self.stored))

    def _align(self, index: int) -> None:
        config = self.config
        align(
            self.head,
            self.gaussians,
            epochs=config.align_epochs,
            lr=config.align_lr,
            samples=config.align_samples or 5 * config.batch_size,
            weight_decay=config.weight_decay,
            generator=seeding.generator(self.problem.seed, "align", index, device=self.problem.device),
        )

    @torch.no_grad()
    def answer(self, batch: Batch) -> Answer:
        """How a batch as stored is answered; at least one task has been learnt."""
        self.model.eval()
        begun = self.adapted.begin(self.problem.transform.evaluate(batch)["image"])
        first = self.adapted.finish(begun, self._set(0)).float()
        near = cosines(first, self.auxiliary["means"])
        if "task" in batch:  # its task is known; one that is not learnt yet goes through the first adapters
            task = torch.where(batch["task"] < self.tasks, batch["task"], 0)
            return Answer(near, self._logits(begun, first, task), [task])
        tasks = [self.task_of_class[near.argmax(1)]]
        if not self.config.refinements:
            tasks = [torch.zeros_like(tasks[0])]
        logits = self._logits(begun, first, tasks[0])
        open_ = torch.arange(len(first), device=first.device)  # examples that have not named the same task twice
        for asked in range(1, self.config.refinements + 1):
            task = tasks[-1].clone()
            task[open_] = self.task_of_class[logits[open_, : len(self.task_of_class)].argmax(1)]
            open_ = open_[task[open_] != tasks[-1][open_]]
            if not len(open_) or asked == self.config.refinements:
                break
            tasks.append(task)
            logits[open_] = self._logits(begun.rows(open_), first[open_], task[open_])
        return Answer(near, logits, tasks)

    def _logits(self, begun: Begun, first: Tensor, task: Tensor) -> Tensor:
        """Logits (N, outputs) under each example's own adapters; those of the first set are there already."""
        features = first.clone()
        others = task.nonzero()[:, 0]
        if len(others):
            weights = AdapterWeights(*(s[:, task[others]] for s in self.stored))
            features[others] = self.adapted.finish(begun.rows(others), weights).float()
        logits: Tensor = self.head(features)
        return logits

    @torch.no_grad()
    def predict(self, batch: Batch) -> Tensor:
        """Labels (N,) int64."""
        if not self.tasks:
            return super().predict(batch)
        near, logits, _ = self.answer(batch)
        if not self.config.ensemble:
            return self.model.masked(logits, batch).argmax(1)
        scores = logits.softmax(1)
        scores[:, : near.shape[1]] += (self.tasks * near).softmax(1)
        return self.model.masked(scores, batch).argmax(1)

    def parameters(self) -> tuple[int, int]:
        """Numbers of parameters (all, the sets of adapters included; those that the last experience trained)."""
        every, trained = super().parameters()
        one = sum(w.numel() for w in self.adapted.adapters)
        return every + max(self.tasks - 1, 0) * one, trained

    def notes(self) -> dict[str, Any]:
        """The mode of merging, and how far the newest adapters are from the first, relative to their length."""
        newest, first = (torch.cat([w.flatten() for w in self._set(task)]) for task in (self.tasks - 1, 0))
        moved = float((newest - first).norm() / first.norm())
        return {"merge": self.config.merge.value, "distance_from_first_adapters": moved}

    def state(self) -> dict[str, Any]:
        """The model, the stored sets, Gaussians and means."""
        return {**super().state(), "stored": list(self.stored)}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on as the strategy whose `state` this is would."""
        super().restore(state)
        self.stored = AdapterWeights(*(s.to(self.problem.device) for s in state["stored"]))
        self.gaussians.restore(self.auxiliary)
