"""SimpleCIL: the class whose mean feature has the smallest angle to the example's.

Zhou et al. 2023, arXiv 2303.07338, section 4.1, with phi the frozen pre-trained backbone:

    p_c = mean of phi(x) over the training examples of class c          answer: argmax_c cos(phi(x), p_c)

Nothing is trained and nothing is drawn. Features are those of unaugmented images, computed once for all runs, and
means are of features as they come, not scaled to length 1 before. The final accuracy depends neither on the order of
the classes nor on how they are cut into experiences. What differs from the authors' code: nothing in what is computed;
means are kept beside the model and not as rows of a cosine head. Any backbone serves. In a task-incremental stream the
means of the example's own task compete, and before the task is learnt its first class is the answer.
Certificate: no published number is reproduced yet.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from clbench.images.frozen import FrozenFeatures
from clbench.images.prototypes import class_means, cosines
from clbench.scenario import Experience
from clbench.strategy import Problem, strategies


@dataclass
class SimpleCILConfig:
    """No fields: there is nothing to choose."""


@strategies.register(SimpleCILConfig)
class SimpleCIL(FrozenFeatures):
    """One mean for each class, (C, F), is kept."""

    config: SimpleCILConfig

    def __init__(self, config: SimpleCILConfig, problem: Problem) -> None:
        super().__init__(config, problem)
        self.kept["means"] = torch.empty(0, 0, device=problem.device)

    def learn(self, experience: Experience) -> None:
        """Add the means of the new classes."""
        features, labels = (experience.train.column(name) for name in ("feature", "label"))
        means = class_means(features, labels, experience.classes)
        self.kept["means"] = torch.cat((self.kept["means"].view(-1, means.shape[1]), means))

    def scores(self, features: Tensor) -> Tensor:
        """Cosines (N, C)."""
        return cosines(features, self.kept["means"].view(-1, features.shape[1]))
