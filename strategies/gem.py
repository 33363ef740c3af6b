"""Gradient episodic memory: no step may raise the loss on the exemplars of a past experience.

Lopez-Paz & Ranzato 2017, arXiv 1706.08840, section 3. With g the gradient of the batch and g_k that of the loss on the
exemplars of past experience k, both taken anew for each step, the step follows (equation 8)

    argmin over z of |z - g|^2 / 2       such that  <z, g_k> >= 0  for all past k

Where g breaks no constraint it stays. Else, with G the matrix of all g_k, the dual (equation 11) has one unknown each:

    z = g + G^T v,       v = argmin over v >= margin of  v^T (G G^T + eps I) v / 2 + (G g)^T v

``margin`` favours the past: the authors' code bounds v with it, where the paper adds it to v. ``ratio=0.5`` is half
fine-tuning with GEM (`clbench.half`): g and g_k are then those of the half that trains.

What differs from the authors' code: there the memory takes the last examples of an experience as they arrive, here it
is filled after each experience (``policy=ring`` keeps the last); one capacity holds for all experiences; all exemplars
are asked in passes of ``memory.batch_size``; the loss is the scenario's, over all outputs where all compete. As there,
exemplars are not augmented, and batch-norm statistics follow them too. Certificate: no published number is reproduced
yet.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import nnls
from torch import Tensor

from clbench.gradients import Projecting, ProjectingConfig
from clbench.scenario import Experience
from clbench.space import Uniform, require, searched
from clbench.strategy import strategies

Array = npt.NDArray[np.float64]


@dataclass
class GEMConfig(ProjectingConfig):
    """The shared fields and those of the projection."""

    margin: float = searched(
        0.5, Uniform(0.0, 1.0)
    )  # smallest weight of each past gradient; the code's memory strength
    eps: float = 1e-3  # added to the squared lengths of past gradients

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.margin >= 0, "strategy.margin", ">= 0", self.margin)
        require(self.eps > 0, "strategy.eps", "> 0", self.eps)


def weights(gram: Array, products: Array, margin: float, eps: float) -> Array:
    """The v (K,) >= ``margin`` that minimises ``v (gram + eps I) v / 2 + products v``.

    Args:
        gram: (K, K), symmetric; eigenvalues that rounding has made negative count as 0.
        products: (K,).
        margin: at least 0.
        eps: above 0.
    """
    values, vectors = np.linalg.eigh(gram)
    root = np.sqrt(values.clip(min=0) + eps)
    matrix = root[:, None] * vectors.T  # matrix^T matrix = gram + eps I
    slope = matrix.T @ matrix @ np.full(len(gram), margin) + products
    # Up to a constant, the objective at v = margin + u is |matrix u - target|^2 / 2: non-negative least squares.
    target = -(vectors.T @ slope) / root
    return margin + np.asarray(nnls(matrix, target, maxiter=100 * len(gram))[0])


def project(gradient: Tensor, past: Tensor, margin: float, eps: float) -> Tensor:
    """The z (P,) of the module's docstring; ``gradient`` itself where it breaks no constraint or is not finite.

    Args:
        gradient: (P,) float.
        past: (K, P) float, one row per past experience.
        margin: smallest weight of a row in the result.
        eps: added to the rows' squared lengths.
    """
    products, gram = (past @ gradient).double().cpu(), (past @ past.T).double().cpu()
    if not (products < 0).any() or not (products.isfinite().all() and gram.isfinite().all()):
        return gradient
    found = weights(gram.numpy(), products.numpy(), margin, eps)
    return gradient + torch.from_numpy(found).to(past) @ past


@strategies.register(GEMConfig)
class GEM(Projecting):
    """The loop with one constraint for each past experience that has exemplars."""

    config: GEMConfig

    def begin(self, experience: Experience) -> None:
        """Look up the exemplars of each past experience."""
        super().begin(experience)
        tasks = self.kept.column("task")
        self.past = [self.kept.select(tasks == task) for task in tasks.unique()]

    def projected(self, gradient: Tensor) -> Tensor:
        """The nearest direction that raises no past experience's loss."""
        past = torch.stack([self.gradient_of(table) for table in self.past])
        return project(gradient, past, self.config.margin, self.config.eps)
