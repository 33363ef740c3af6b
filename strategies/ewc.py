"""Elastic weight consolidation: springs on the parameters that mattered before.

Loss (Kirkpatrick et al. 2017, arXiv 1612.00796, equation 3):

    cross-entropy + strength / 2 * sum over past experiences k of  F_k (theta - theta_k)^2

with F_k the diagonal of the Fisher information at the end of experience k, estimated from per-example gradients of
the loss on the true labels (the empirical Fisher). The sum of quadratics is itself one quadratic, with F = sum F_k and
its minimum at sum F_k theta_k / F, so memory does not grow with the number of experiences and nothing is approximated.
``online`` instead keeps F = decay * F + F_k around the newest theta_k (Schwarz et al. 2018, arXiv 1805.06370). Rows
that the head grew later have F = 0. Certificate: no published number is reproduced yet.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from clbench import seeding
from clbench.finetune import FineTune, FineTuneConfig
from clbench.scenario import Experience
from clbench.space import LogUniform, require, searched
from clbench.strategy import strategies
from clbench.table import Batch

GRADIENT_ELEMENTS = 32_000_000  # per-example gradients held at once


@dataclass
class EWCConfig(FineTuneConfig):
    """The shared fields and those of the springs."""

    strength: float = searched(10.0, LogUniform(0.1, 1e4))  # stiffness, lambda in the paper
    online: bool = False  # one decaying Fisher around the newest parameters
    decay: float = 0.95  # of the past Fisher when online, gamma in the paper
    fisher_examples: int = 512  # examples per experience that the Fisher is estimated from

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.strength >= 0, "strategy.strength", ">= 0", self.strength)
        require(0 <= self.decay <= 1, "strategy.decay", "in [0, 1]", self.decay)
        require(self.fisher_examples >= 1, "strategy.fisher_examples", ">= 1", self.fisher_examples)


def empirical_fisher(model: nn.Module, batches: Iterable[Batch]) -> dict[str, Tensor]:
    """Mean over examples of the squared gradient of each example's loss.

    Args:
        model: whose ``forward(batch)`` is the mean loss; in evaluation mode, so that examples do not mix.
        batches: columns (N, ...) as the model takes them.

    Returns:
        One tensor per parameter that requires a gradient, of its shape.
    """
    parameters = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    frozen = {name: p.detach() for name, p in model.named_parameters() if not p.requires_grad}
    buffers = dict(model.named_buffers())

    def loss(values: dict[str, Tensor], example: Batch) -> Tensor:
        batch = {name: column[None] for name, column in example.items()}
        # The fused attention kernels cannot be taken per example.
        with sdpa_kernel(SDPBackend.MATH):
            result: Tensor = functional_call(model, ({**frozen, **values}, buffers), (batch,))
        return result

    per_example = vmap(grad(loss), in_dims=(None, 0))
    total = {name: torch.zeros_like(p) for name, p in parameters.items()}
    count = 0
    for batch in batches:
        for name, gradient in per_example(parameters, batch).items():
            total[name] += gradient.square().sum(0)
        count += len(next(iter(batch.values())))
    return {name: value / max(count, 1) for name, value in total.items()}


def merge_quadratics(
    importance: Tensor, anchor: Tensor, new_importance: Tensor, new_anchor: Tensor
) -> tuple[Tensor, Tensor]:
    """The one quadratic that is the sum of two, up to a constant: (sum of importances, their weighted mean anchor)."""
    total = importance + new_importance
    weighted = (importance * anchor + new_importance * new_anchor) / total.clamp_min(torch.finfo(total.dtype).tiny)
    return total, torch.where(total > 0, weighted, new_anchor)


@strategies.register(EWCConfig)
class EWC(FineTune):
    """The loop with a quadratic penalty; importances and anchors are auxiliary tensors."""

    config: EWCConfig

    def loss(self, batch: Batch) -> Tensor:
        """Cross-entropy and the springs."""
        loss = super().loss(batch)
        if not self.auxiliary:
            return loss
        moved = torch.cat([p.flatten() for _, p in self._springs()]) - self._anchor
        return loss + 0.5 * self.config.strength * (self._importance * moved.square()).sum()

    def begin(self, experience: Experience) -> None:
        """Line the springs up with the parameters, the head having grown."""
        if not self.auxiliary:
            return
        for name, parameter in self._springs():
            for kind in ("importance", "anchor"):
                # adapters may be new here
                known = self.auxiliary.get(f"{kind}/{name}", torch.zeros_like(parameter))
                self.auxiliary[f"{kind}/{name}"] = padded(known, parameter)
        self._anchor, self._importance = self._flat("anchor"), self._flat("importance")

    def _flat(self, kind: str) -> Tensor:
        return torch.cat([self.auxiliary[f"{kind}/{name}"].flatten() for name, _ in self._springs()])

    def _springs(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]

    def end(self, experience: Experience) -> None:
        """Estimate this experience's importances and merge them with the earlier ones."""
        self.model.eval()
        with torch.no_grad():
            for name, fisher in empirical_fisher(self.model, self._examples(experience)).items():
                self._merge(name, fisher, self.model.get_parameter(name).detach().clone())

    def _examples(self, experience: Experience) -> Iterable[Batch]:
        draws = seeding.generator(self.problem.seed, "fisher", experience.index)
        chosen = torch.randperm(len(experience.train), generator=draws)[: self.config.fisher_examples]
        elements = sum(p.numel() for _, p in self._springs())
        size = max(1, min(self.config.batch_size, GRADIENT_ELEMENTS // elements))
        return (self.problem.transform.evaluate(b) for b in experience.train.select(chosen).batches(size))

    def _merge(self, name: str, fisher: Tensor, values: Tensor) -> None:
        old = self.auxiliary.get(f"importance/{name}", torch.zeros_like(fisher))
        anchor = self.auxiliary.get(f"anchor/{name}", values)
        if self.config.online:
            merged = (self.config.decay * old + fisher, values)
        else:
            merged = merge_quadratics(old, anchor, fisher, values)
        self.auxiliary[f"importance/{name}"], self.auxiliary[f"anchor/{name}"] = merged


def padded(tensor: Tensor, like: Tensor) -> Tensor:
    """``tensor`` with zero rows added until its shape is that of ``like``."""
    missing = len(like) - len(tensor) if tensor.dim() else 0
    return F.pad(tensor, (0, 0) * (tensor.dim() - 1) + (0, missing)) if missing else tensor
