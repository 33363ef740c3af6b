"""Learning without Forgetting: the model as it was before teaches the new one.

Loss (Li & Hoiem 2017, arXiv 1606.09282, equations 1-3, in the Kullback-Leibler form that has the same gradient):

    cross-entropy(new examples, new outputs) + strength * T^2 * KL( softmax(old logits / T) || softmax(logits / T) )

The cross-entropy runs over the outputs of the new experience only, so learning it does not push the old outputs down;
the distillation over the outputs that the old model has, on the new experience's images. No exemplar is needed; where
a memory is given, old labels are in the batch and the cross-entropy runs over all outputs. What differs from the
paper: all parameters train together from the first step (no warm-up of the new outputs), and in a class-incremental
stream the old outputs share one softmax (in a task-incremental one each old experience has its own, as in the paper).
Certificate: no published number is reproduced yet.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from clbench.finetune import FineTune, FineTuneConfig
from clbench.models.model import Model
from clbench.parallel import Sharding
from clbench.scenario import Experience
from clbench.space import Choice, LogUniform, require, searched
from clbench.strategy import Problem, strategies
from clbench.table import Batch


@dataclass
class LwFConfig(FineTuneConfig):
    """The shared fields and those of distillation."""

    strength: float = searched(1.0, LogUniform(0.1, 10.0))  # weight of the distillation
    temperature: float = searched(2.0, Choice((1.0, 2.0, 4.0)))  # T

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.strength >= 0, "strategy.strength", ">= 0", self.strength)
        require(self.temperature > 0, "strategy.temperature", "> 0", self.temperature)


def distillation(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 KL(softmax(teacher / T) || softmax(logits / T)), mean over the batch.

    Args:
        logits: (N, C) float, the learner's.
        teacher: (N, C) float, constant.
        temperature: T > 0.
    """
    log_student = F.log_softmax(logits / temperature, dim=1)
    log_teacher = F.log_softmax(teacher / temperature, dim=1)
    return temperature**2 * F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)


@strategies.register(LwFConfig)
class LwF(FineTune):
    """The loop with a teacher: the model as it was before the experience."""

    spreads = frozenset({Sharding.NONE, Sharding.FULL})
    config: LwFConfig

    def __init__(self, config: LwFConfig, problem: Problem) -> None:
        super().__init__(config, problem)
        self.teacher: Model | None = None
        self.old = 0  # outputs of past experiences
        self.groups: list[slice] = []  # old outputs that share a softmax

    def begin(self, experience: Experience) -> None:
        """Copy the teacher, unless this is the first experience."""
        self.old = experience.classes[0]  # labels count classes in order of arrival, so all below this one are old
        if self.old:
            self.teacher = copy.deepcopy(self.model).eval().requires_grad_(False)
            self.groups = self.model.old_groups(self.old)

    def loss(self, batch: Batch) -> Tensor:
        """Cross-entropy and distillation."""
        logits = self.model.all_logits(batch)
        loss = self._new_loss(logits, batch)
        if self.teacher is None:
            return loss
        with torch.no_grad():
            old = self.teacher.all_logits(batch)
        kept = [distillation(logits[:, group], old[:, group], self.config.temperature) for group in self.groups]
        return loss + self.config.strength * torch.stack(kept).sum()

    def _new_loss(self, logits: Tensor, batch: Batch) -> Tensor:
        if len(self.memory):
            return self.model.cross_entropy(logits, batch)
        return self.model.new_cross_entropy(logits, batch, self.old)

    def end(self, experience: Experience) -> None:
        """Let the teacher go: the next one is the model itself."""
        self.teacher = None
