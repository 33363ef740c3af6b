"""APER with adapters: class means of features from before and after learning the first experience.

Zhou et al. 2023, arXiv 2303.07338 (ADAM in its first version), algorithm 1, with phi the pre-trained backbone and
phi' the same with an adapter in every block (`clbench.models.adapters`):

    first experience: train the adapters and a cosine head of learnt scale by cross-entropy; then freeze everything
    f(x) = [phi(x), phi'(x)];  p_c = mean of f(x) over the training examples of class c
    answer: argmax_c cos(f(x), p_c)

Means are taken of unaugmented images. The head is not used after the first experience. phi(x) is read from the cache
of frozen features, phi'(x) is computed: one pass per image where the paper counts two. Defaults are those of the
authors' code on CIFAR-100: rank 64, SGD with momentum 0.9, learning rate 0.01 falling to 0 by a cosine over epochs,
weight decay 5e-4, 20 epochs of batches of 48. What differs from the authors' code: phi' sees augmented images in
training as the scenario has them. In a task-incremental stream the head's classes are those of the first task, the
means of the example's own task compete, and before the task is learnt its first class is the answer.
Certificate: no published number is reproduced yet.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from clbench.finetune import EVALUATION_BATCH
from clbench.images.frozen import FirstSession, FirstSessionConfig
from clbench.images.prototypes import best, class_means, cosines
from clbench.scenario import Experience
from clbench.strategy import Problem, strategies
from clbench.table import Batch, Table


@dataclass
class APERConfig(FirstSessionConfig):
    """The first experience's fields and the adapters'."""


@strategies.register(APERConfig)
class APER(FirstSession):
    """One mean for each class is an auxiliary tensor (C, 2 F)."""

    config: APERConfig

    def __init__(self, config: APERConfig, problem: Problem) -> None:
        super().__init__(config, problem)
        self.auxiliary["means"] = torch.empty(0, 2 * self.width, device=problem.device)

    @classmethod
    def reads(cls, config: APERConfig) -> frozenset[str]:
        """Images for the adapted backbone, and the features of the backbone as it came."""
        return frozenset({"image", "feature"})

    def collect(self, experience: Experience) -> None:
        """Add the means of the new classes."""
        means = class_means(self.features(experience.train), experience.train.column("label"), experience.classes)
        self.auxiliary["means"] = torch.cat((self.auxiliary["means"], means))

    @torch.no_grad()
    def features(self, table: Table) -> Tensor:
        """Features (N, 2 F) of a table's examples, not augmented: as they were and adapted."""
        return torch.cat([self._both(batch) for batch in table.batches(EVALUATION_BATCH)])

    def _both(self, stored: Batch) -> Tensor:
        self.model.eval()
        batch = self.problem.transform.evaluate(stored)
        return torch.cat((batch["feature"], self.model.backbone(batch["image"])), 1)

    @torch.no_grad()
    def predict(self, batch: Batch) -> Tensor:
        """Labels (N,) int64: the mean with the largest cosine."""
        return best(cosines(self._both(batch), self.auxiliary["means"]), batch, self.model.task_of_class)
