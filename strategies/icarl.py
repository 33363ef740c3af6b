"""iCaRL: the class whose exemplars lie nearest is the answer.

Loss (Rebuffi et al. 2017, arXiv 1611.07725, algorithm 3), mean over the batch, with z the logits, z' those of the model
before the experience, K the number of old outputs and BCE(z, q) = -q log sigmoid(z) - (1 - q) log(1 - sigmoid(z)):

    sum over new outputs j of BCE(z_j, [label = j]) + strength * sum over old outputs j of BCE(z_j, sigmoid(z'_j))

``loss=softmax`` is what the field's toolboxes train instead, the cross-entropy over all outputs and

    strength * KL( softmax(z'_1..K / T) || softmax(z_1..K / T) ),        without a factor T^2

An epoch runs over new examples and all exemplars, shuffled into one pool, so ``memory.batch_size`` is not used. The
answer is the class y with the largest cosine between the features of x and mu_y, the mean of the features of y's
exemplars, all of unit length: the nearest mean of exemplars. Exemplars are herded (algorithms 4 and 5).

What differs from the paper: ``strength`` (1 there); old outputs are asked of the augmented images as they come, not
once beforehand; with ``mirrored``, means are taken over the exemplars and their mirror images, as toolboxes do, but
only where the scenario mirrors in training: elsewhere a mirror image need not be of the same class (a digit), and the
network has never seen one. In a task-incremental stream the loss stays, the means of the example's own task compete,
and before a task is learnt the outputs answer for want of means. Certificate: no published number is reproduced yet.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from enum import Enum

import torch
import torch.nn.functional as F
from torch import Tensor

from clbench.errors import IncompatibleError
from clbench.finetune import EVALUATION_BATCH, FineTuneClassifier, FineTuneConfig
from clbench.memory import MemoryConfig, Policy
from clbench.models.classifier import Classifier
from clbench.scenario import Experience
from clbench.space import LogUniform, Uniform, require, searched
from clbench.strategy import Problem, strategies
from clbench.table import Batch, Source, Table


class Loss(Enum):
    """What the outputs are trained with."""

    BINARY = "binary"  # a sigmoid for each output: the paper's
    SOFTMAX = "softmax"  # cross-entropy and distillation at a temperature: the toolboxes'


@dataclass
class ICaRLConfig(FineTuneConfig):
    """The shared fields, with a herded memory, and those of distillation."""

    loss: Loss = Loss.BINARY  # what the outputs are trained with
    strength: float = searched(1.0, LogUniform(0.5, 3.0))  # weight of the distillation
    temperature: float = searched(2.0, Uniform(0.5, 2.5))  # T; of the softmax loss only
    mirrored: bool = True  # means over mirror images too, where the scenario mirrors in training
    memory: MemoryConfig = field(default_factory=lambda: MemoryConfig(capacity=200, policy=Policy.HERDING))

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.strength >= 0, "strategy.strength", ">= 0", self.strength)
        require(self.temperature > 0, "strategy.temperature", "> 0", self.temperature)
        self.memory.require_some("for icarl")


def binary_loss(logits: Tensor, labels: Tensor, teacher: Tensor, strength: float) -> Tensor:
    """Sum over outputs of the binary cross-entropy, mean over the batch, ().

    Args:
        logits: (N, C) float, the learner's.
        labels: (N,) int64, below C.
        teacher: (N, K) float, constant, K <= C: old logits, whose sigmoids are the first K outputs' targets. The
            targets of the others are 1 for the label and 0 elsewhere.
        strength: weight of the first K outputs' terms.
    """
    old = teacher.shape[1]
    wanted = F.one_hot(labels, logits.shape[1])[:, old:].to(logits)
    terms = F.binary_cross_entropy_with_logits(logits, torch.cat((teacher.sigmoid(), wanted), 1), reduction="none")
    return (strength * terms[:, :old].sum(1) + terms[:, old:].sum(1)).mean()


def distillation(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KL(softmax(teacher / T) || softmax(logits / T)), mean over the batch, (); both (N, K) float."""
    log_student = F.log_softmax(logits / temperature, dim=1)
    log_teacher = F.log_softmax(teacher / temperature, dim=1)
    return F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)


def class_means(features: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Each class's mean of the features scaled to length 1, itself scaled to length 1.

    Args:
        features: (N, F) float.
        labels: (N,) int64, below ``classes``.
        classes: rows of the result.

    Returns:
        (classes, F); zeros for a class without an example.
    """
    unit = F.normalize(features, dim=1)
    # A product and not index_add_, whose order of summation varies on GPUs; the length of a sum is as good as a mean's.
    sums = F.one_hot(labels, classes).to(unit).T @ unit
    return F.normalize(sums, dim=1)


def nearness(features: Tensor, means: Tensor) -> Tensor:
    """Cosine of each example with each class mean, larger where ||features / |features| - mean|| is smaller.

    Args:
        features: (N, F) float.
        means: (C, F) float, of length 1, or zeros where a class has none.

    Returns:
        (N, C); -inf for a class without a mean.
    """
    return (F.normalize(features, dim=1) @ means.T).masked_fill(~means.any(1), float("-inf"))


@strategies.register(ICaRLConfig)
class ICaRL(FineTuneClassifier):
    """The loop over new examples and exemplars, with a teacher; class means are an auxiliary tensor (outputs, F)."""

    config: ICaRLConfig

    def __init__(self, config: ICaRLConfig, problem: Problem) -> None:
        super().__init__(config, problem)
        self.teacher: Classifier | None = None
        self.old = 0  # outputs of past experiences
        self.seen = 0  # and those of this one

    def learn(self, experience: Experience) -> None:
        """Learn one experience, then take the means of the exemplars anew.

        Raises:
            IncompatibleError: the memory cannot hold one exemplar of each class.
        """
        # labels count classes in order of arrival, so all below this experience's first are old
        self.old, self.seen = experience.classes[0], experience.classes[-1] + 1
        if self.config.memory.capacity < self.seen:
            raise IncompatibleError(
                f"icarl needs an exemplar of each class, {self.seen} by experience {experience.index}; "
                f"strategy.memory.capacity={self.config.memory.capacity} must be at least that"
            )
        super().learn(experience)
        self.auxiliary["means"] = self._means(experience.train.source)

    def begin(self, experience: Experience) -> None:
        """Copy the teacher, unless this is the first experience."""
        if self.old:
            self.teacher = copy.deepcopy(self.model).eval().requires_grad_(False)

    def training_table(self, experience: Experience) -> Table:
        """The new rows and all exemplars."""
        return experience.train.join(Table(experience.train.source, self.memory.rows))

    def exemplars(self, draws: torch.Generator) -> Tensor:
        """None beside those that the table holds already."""
        return self.memory.rows[:0]

    def loss(self, batch: Batch) -> Tensor:
        """Classification and distillation."""
        logits = self.model.all_logits(batch)
        with torch.no_grad():
            teacher = logits[:, :0] if self.teacher is None else self.teacher.all_logits(batch)[:, : self.old]
        if self.config.loss is Loss.BINARY:
            return binary_loss(logits[:, : self.seen], batch["label"], teacher, self.config.strength)
        loss = self.model.cross_entropy(logits, batch)
        if self.teacher is None:
            return loss
        return loss + self.config.strength * distillation(logits[:, : self.old], teacher, self.config.temperature)

    def end(self, experience: Experience) -> None:
        """Let the teacher go: the next one is the model itself."""
        self.teacher = None

    @torch.no_grad()
    def _means(self, source: Source) -> Tensor:
        self.model.eval()
        features, labels = [], []
        for stored in Table(source, self.memory.rows).batches(EVALUATION_BATCH):
            batch = self.problem.transform.evaluate(stored)
            views = [batch["image"]]
            if self.config.mirrored and self.problem.transform.flip:
                views.append(batch["image"].flip(3))
            features += [self.model.features({**batch, "image": view}) for view in views]
            labels += [batch["label"]] * len(views)
        return class_means(torch.cat(features), torch.cat(labels), self.model.outputs)

    @torch.no_grad()
    def predict(self, batch: Batch) -> Tensor:
        """Labels (N,) int64: the nearest mean; the largest logit where no class in question has a mean."""
        if "means" not in self.auxiliary:
            return super().predict(batch)
        self.model.eval()
        batch = self.problem.transform.evaluate(batch)
        features = self.model.features(batch)
        near = self.model.masked(nearness(features, self.auxiliary["means"]), batch)
        logits = self.model.masked(self.model.head(features), batch)
        return torch.where(near.amax(1) > float("-inf"), near.argmax(1), logits.argmax(1))
