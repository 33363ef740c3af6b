"""RanPAC: ridge regression on random features, as if all data were there at once.

McDonnell et al. 2023, arXiv 2307.02251, algorithm 1, with phi the backbone, P a fixed matrix of standard normal numbers
and Y the labels as one-hot rows:

    phase 1, first experience only: train adapters and a cosine head by cross-entropy (as in APER); freeze everything
    phase 2, every experience:      H = ReLU(phi(X) P);  G += H^T H;  Q += H^T Y;  W = (G + ridge I)^-1 Q
    answer: argmax_c of ReLU(phi(x) P) W, linear, without a cosine

G and Q are sums over examples: but for the choice of the ridge, phase 2 depends neither on the order of the classes nor
on how they are cut into experiences. The ridge is chosen anew at each experience among 1e-8, 1e-7, ..., 1e8: fitted on
80 % of this experience's examples, shuffled, the one with the smallest squared error on the rest.

What differs from the authors' code: an experience of a single class leaves the ridge as it was (1 at the beginning),
since with nothing to be told apart from it is fitted best by hardly any ridge; phase 2 is in float64 (there float32,
in which small ridges drown in rounding), by Cholesky factorisation, in the choice of the ridge of the smaller of H H^T
and H^T H; a ridge that is still too small for G is raised tenfold until it is not. ``projection`` is 2,000 here and
10,000 there, where features have 768 numbers: the same ratio at about 150 numbers. G takes 8 projection^2 bytes.
``phase1=false`` reads cached features only and takes any backbone. In a task-incremental stream the classes of the
example's own task compete, and before the task is learnt its first class is the answer.
Certificate: no published number is reproduced yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from clbench import seeding
from clbench.errors import DivergedError
from clbench.images.frozen import FirstSession, FirstSessionConfig
from clbench.images.prototypes import best
from clbench.scenario import Experience
from clbench.space import Choice, require, searched
from clbench.strategy import Problem, strategies
from clbench.table import Batch

RIDGES = tuple(10.0**power for power in range(-8, 9))
FITTED = 0.8  # share of an experience's examples that a ridge is tried on


@dataclass
class RanPACConfig(FirstSessionConfig):
    """The first experience's fields, the adapters', and the regression's."""

    phase1: bool = True  # adapt the backbone to the first experience
    projection: int = searched(2000, Choice((500, 1000, 2000, 4000)))  # random features; 10,000 in the paper
    ridge: float | None = None  # fixed ridge; null: chosen at each experience

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.projection >= 1, "strategy.projection", ">= 1", self.projection)
        require(self.ridge is None or self.ridge > 0, "strategy.ridge", "> 0 or null", self.ridge)


def solved(gram: Tensor, right: Tensor, ridge: float) -> Tensor | None:
    """(gram + ridge I)^-1 right, (M, C); None where that matrix is not positive definite, rounding included.

    Args:
        gram: (M, M) float64, positive semi-definite.
        right: (M, C) float64.
        ridge: added to the diagonal.
    """
    shifted = gram.clone()
    shifted.diagonal().add_(ridge)
    factor, failed = torch.linalg.cholesky_ex(shifted)
    return None if failed else torch.cholesky_solve(right, factor)


def held_out_errors(features: Tensor, targets: Tensor) -> list[float]:
    """Mean squared error on the last rows of a regression on the first ones, for each of `RIDGES`.

    Args:
        features: (N, M) float64, N >= 2.
        targets: (N, C) float64.

    Returns:
        One for each ridge; infinity where it is too small to solve with.
    """
    count = int(FITTED * len(features))
    fit, wanted, held = features[:count], targets[:count], features[count:]
    # H^T (H H^T + r I)^-1 Y = (H^T H + r I)^-1 H^T Y: of the two, the smaller system
    if count < features.shape[1]:
        gram, right, held = fit @ fit.T, wanted, held @ fit.T
    else:
        gram, right = fit.T @ fit, fit.T @ wanted
    errors = []
    for ridge in RIDGES:
        solution = solved(gram, right, ridge)
        errors.append(float("inf") if solution is None else float(F.mse_loss(held @ solution, targets[count:])))
    return errors


@strategies.register(RanPACConfig)
class RanPAC(FirstSession):
    """P, G, Q, W (M, C) and the ridge are auxiliary tensors."""

    config: RanPACConfig

    def __init__(self, config: RanPACConfig, problem: Problem) -> None:
        super().__init__(config, problem)
        draws, size = seeding.generator(problem.seed, "projection"), config.projection
        tensors = {
            "projection": torch.randn(self.width, size, generator=draws),
            "gram": torch.zeros(size, size, dtype=torch.float64),
            "cross": torch.zeros(size, 0, dtype=torch.float64),
            "weight": torch.zeros(size, 0, dtype=torch.float64),
            "ridge": torch.tensor(1.0 if config.ridge is None else config.ridge, dtype=torch.float64),
        }
        self.auxiliary = {name: tensor.to(problem.device) for name, tensor in tensors.items()}

    @classmethod
    def adapts(cls, config: RanPACConfig) -> bool:
        """Whether there is a phase 1."""
        return config.phase1

    @classmethod
    def reads(cls, config: RanPACConfig) -> frozenset[str]:
        """Images where the backbone adapts, else its features as it comes."""
        return frozenset({"image"} if config.phase1 else {"feature"})

    def collect(self, experience: Experience) -> None:
        """Add this experience to the sums and solve.

        Raises:
            DivergedError: the features are no longer finite.
        """
        kept, outputs = self.auxiliary, experience.classes[-1] + 1
        hidden = self._hidden(self.features(experience.train))
        targets = F.one_hot(experience.train.column("label"), outputs).to(hidden)
        kept["gram"] += hidden.T @ hidden
        kept["cross"] = F.pad(kept["cross"], (0, outputs - kept["cross"].shape[1])) + hidden.T @ targets
        if not bool(kept["gram"].isfinite().all()):
            raise DivergedError(f"the features of experience {experience.index} are not finite")
        self._choose(hidden, targets, experience)
        kept["weight"] = self._solution()

    def _hidden(self, features: Tensor) -> Tensor:
        """Random features (N, M) float64 of features (N, F)."""
        return F.relu(features @ self.auxiliary["projection"]).double()

    def _choose(self, hidden: Tensor, targets: Tensor, experience: Experience) -> None:
        ridge = self.auxiliary["ridge"]
        if self.config.ridge is not None:
            ridge.fill_(self.config.ridge)
        elif len(hidden) > 1 and len(experience.classes) > 1:
            draws = seeding.generator(self.problem.seed, "ridge", experience.index)
            order = torch.randperm(len(hidden), generator=draws)
            errors = held_out_errors(hidden[order.to(hidden.device)], targets[order.to(hidden.device)])
            ridge.fill_(RIDGES[errors.index(min(errors))])

    def _solution(self) -> Tensor:
        kept = self.auxiliary
        while (solution := solved(kept["gram"], kept["cross"], float(kept["ridge"]))) is None:
            kept["ridge"] *= 10
        return solution

    @torch.no_grad()
    def predict(self, batch: Batch) -> Tensor:
        """Labels (N,) int64: the largest of the regression's outputs."""
        self.model.eval()
        hidden = self._hidden(self.model.features(self.problem.transform.evaluate(batch)))
        return best(hidden @ self.auxiliary["weight"], batch, self.model.task_of_class)

    def notes(self) -> dict[str, Any]:
        """The ridge that was used."""
        return {"ridge": float(self.auxiliary["ridge"])}
