"""FeCAM: the nearest class mean, each class measuring distance by its own covariance.

Goswami et al. 2023, arXiv 2309.14062, section 3. With phi(x) the frozen features scaled to length 1, mu_c their mean
and Sigma_c their covariance over class c, V1 the mean of the diagonal of Sigma_c and V2 that of the rest,

    S_c = Sigma_c + shrinkage V1 I + off_diagonal V2 (1 - I)                       shrinkage
    R_c = S_c scaled to a diagonal of 1, a correlation matrix                      covariance normalisation
    answer: argmin_c (phi(x) - mu_c)^T R_c^-1 (phi(x) - mu_c)

Where no training feature of the first experience is negative, as after a ReLU, features are first raised to the power
``tukey`` (Tukey's transform, equation 8), here and in every later experience; a transformer's are not. Defaults are
those of the authors' script for ViTs (off_diagonal 0, no transform for want of a sign); their CIL networks with ReLU
use off_diagonal 1.

What differs from the authors' code: R_c^-1 is kept as a triangular root, found once by a Cholesky factorisation in
float64, and not as a pseudo-inverse at every test; a class of one example, whose covariance is undefined there, has
R_c = I; their CIL networks scale features to length 1 after taking the covariance, here it is always before. Kept are
F^2 numbers per class. In a task-incremental stream the classes of the example's own task compete, and before the task
is learnt its first class is the answer. Certificate: no published number is reproduced yet.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from clbench.images.frozen import FrozenFeatures
from clbench.images.prototypes import class_means
from clbench.scenario import Experience
from clbench.space import LogUniform, require, searched
from clbench.strategy import Problem, strategies

FLOOR = 1e-12  # added to every variance, so that a class without any has R = I


@dataclass
class FeCAMConfig:
    """How the covariances are made fit to be inverted."""

    shrinkage: float = searched(1.0, LogUniform(0.1, 100.0))  # mean variances added to each variance, gamma 1
    off_diagonal: float = 0.0  # mean covariances added to each covariance, gamma 2; at most the shrinkage
    tukey: float = searched(0.5, LogUniform(0.25, 1.0))  # power of features that are never negative; 1: as they come

    def __post_init__(self) -> None:
        require(self.shrinkage > 0, "strategy.shrinkage", "> 0", self.shrinkage)
        # with more of the second than of the first, S need not be positive definite
        bounded = 0 <= self.off_diagonal <= self.shrinkage
        require(bounded, "strategy.off_diagonal", "in [0, strategy.shrinkage]", self.off_diagonal)
        require(0 < self.tukey <= 1, "strategy.tukey", "in (0, 1]", self.tukey)


def normalised(features: Tensor, power: float) -> Tensor:
    """Features (N, F), negative ones as 0 where a power other than 1 is taken, scaled to length 1."""
    return F.normalize(features if power == 1 else features.clamp_min(0) ** power, dim=1)


def correlation(features: Tensor, shrinkage: float, off_diagonal: float) -> Tensor:
    """The shrunk and normalised covariance of one class.

    Args:
        features: (N, F) float, N >= 0.
        shrinkage: see `FeCAMConfig`.
        off_diagonal: see `FeCAMConfig`.

    Returns:
        (F, F) float64, symmetric positive definite, with a diagonal of 1; I for fewer than two examples.
    """
    centred = features.double() - features.double().sum(0) / max(len(features), 1)
    covariance = centred.T @ centred / max(len(features) - 1, 1)
    variances, width = covariance.diagonal(), len(covariance)
    identity = torch.eye(width, dtype=covariance.dtype, device=covariance.device)
    rest = (covariance.sum() - variances.sum()) / max(width * (width - 1), 1)
    shrunk = covariance + (shrinkage * variances.mean() + FLOOR) * identity + off_diagonal * rest * (1 - identity)
    deviations = shrunk.diagonal().sqrt()
    return shrunk / deviations[:, None] / deviations


def inverse_root(matrix: Tensor) -> Tensor:
    """Lower triangular W (F, F) with W^T W the inverse of a symmetric positive definite matrix (F, F)."""
    identity = torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    root: Tensor = torch.linalg.solve_triangular(torch.linalg.cholesky(matrix), identity, upper=False)
    return root


@strategies.register(FeCAMConfig)
class FeCAM(FrozenFeatures):
    """A mean (C, F) and an inverse root (C, F, F) for each class are kept, and the power of the transform ()."""

    config: FeCAMConfig

    def __init__(self, config: FeCAMConfig, problem: Problem) -> None:
        super().__init__(config, problem)
        empty = torch.empty(0, 0, device=problem.device)
        self.kept = {"means": empty, "roots": empty[None], "power": empty.new_ones(())}

    def learn(self, experience: Experience) -> None:
        """Add the means and covariances of the new classes."""
        stored, labels = (experience.train.column(name) for name in ("feature", "label"))
        if experience.index == 0 and bool((stored >= 0).all()):
            self.kept["power"].fill_(self.config.tukey)
        features = normalised(stored, float(self.kept["power"]))
        means, width = class_means(features, labels, experience.classes), features.shape[1]
        roots = torch.stack([self._root(features[labels == label]) for label in experience.classes])
        self.kept["means"] = torch.cat((self.kept["means"].view(-1, width), means))
        self.kept["roots"] = torch.cat((self.kept["roots"].view(-1, width, width), roots))

    def _root(self, features: Tensor) -> Tensor:
        return inverse_root(correlation(features, self.config.shrinkage, self.config.off_diagonal)).to(features)

    def scores(self, features: Tensor) -> Tensor:
        """Negative squared distances (N, C)."""
        features = normalised(features, float(self.kept["power"]))
        means = self.kept["means"].view(-1, features.shape[1])
        scores = features.new_full((len(features), len(means)), float("-inf"))
        for label in means.any(1).nonzero()[:, 0].tolist():  # a class without an example has a mean of 0
            scores[:, label] = -((features - means[label]) @ self.kept["roots"][label].T).square().sum(1)
        return scores
