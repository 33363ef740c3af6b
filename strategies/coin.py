"""Dynamic EMA: each experience ends as a running average whose step follows the gradient.

Qiao et al. 2025, "Large Continual Instruction Assistant" (code: CoIN), arXiv 2410.10868. Gradients are taken at theta,
its shadow theta* follows at each step t, and after the last step theta* replaces theta:

    theta*_t = (1 - alpha) theta*_(t-1) + alpha theta_t

A second-order expansion of the loss balances plasticity with stability; with L1 norms over a tensor in place of its
elements and a difference quotient for the curvature (read from the authors' figure and code, not from the paper's text)

    r = (1 + |g_t|) |theta_t - theta_(t-1)| / ( |theta_t - theta*_(t-1)| |g_t - g_(t-1)| )

``mode=paper``: 1 - alpha = r.  ``mode=code``, as released: alpha = constant * r without the factor |theta_t -
theta_(t-1)|; the constant is 2, in the authors' later code 0.01, and nowhere explained. ``mode=paper_new``, ours: alpha
= constant * r. ``mode=fixed``: alpha = fallback. Where such a number is not in (0, 1), as at the first step, alpha =
fallback, in the paper 0.01. r adds up elements, so a constant holds for one size of tensor only: quantiles of the
numbers and how many were out of range are noted for every experience.

What differs: the shadow begins before the first step, as in the paper's figure (the code: after it); g_t, as in the
code, is the gradient that the step consumed, taken at theta_(t-1). A missing gradient is zero, where the code silently
takes its fallback. Shadow and sums are float32. Their models are pre-trained; one that begins here at random is not
averaged in its first experience (unless ``first_held=0``), and rows that the head grew end as trained: what is not
inherited has no EMA, say the authors. Batch-norm statistics take the step's mean weight. ``ceiling`` is ours. The
paper trains low-rank adapters, with a set for each group of like instructions: that is a matter of the model
(``model.adapter.rank=8 model.adapter.routing=nearest``), so that every strategy can be given it. A set that is new has
no past, hence no average. Certificate: no published number is reproduced yet; what the formula does in the study of
`results/measured/instructions` stands there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch import Tensor

from clbench.inherited import Inheriting, InheritingConfig, leading
from clbench.kernels.ema_merge import ema_merge_
from clbench.scenario import Experience
from clbench.space import LogUniform, require, searched
from clbench.strategy import strategies

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


class Mode(Enum):
    """How the weight of the new parameters is found."""

    CODE = "code"  # as released
    PAPER = "paper"  # as printed
    PAPER_NEW = "paper_new"  # the paper's ratio, scaled, given to the new parameters as the code does
    FIXED = "fixed"  # always the fallback


class Granularity(Enum):
    """Over what the norms run: what shares one weight."""

    TENSOR = "tensor"  # each parameter: the authors' choice
    LAYER = "layer"  # the parameters of one module
    GLOBAL = "global"  # all parameters


@dataclass
class CoINConfig(InheritingConfig):
    """The shared fields and those of the average."""

    mode: Mode = Mode.CODE  # how the weight is found
    constant: float = searched(2.0, LogUniform(1e-4, 10.0))  # times the ratio, in modes code and paper_new
    fallback: float = searched(0.01, LogUniform(1e-4, 0.1))  # weight where the ratio gives none
    ceiling: float = 1.0  # largest weight that new parameters are given; ours: at 1 there is none, as published
    granularity: Granularity = Granularity.TENSOR  # what shares one weight

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.constant > 0 and math.isfinite(self.constant), "strategy.constant", "> 0", self.constant)
        require(0 <= self.fallback <= 1, "strategy.fallback", "in [0, 1]", self.fallback)
        require(0 < self.ceiling <= 1, "strategy.ceiling", "in (0, 1]", self.ceiling)


def asked(mode: Mode, constant: float, gap: Tensor, gradient: Tensor, change: Tensor, moved: Tensor) -> Tensor:
    """The formula's number (T,): the weight of the old average in `Mode.PAPER`, else that of the new parameters.

    Args:
        mode: which formula; not `Mode.FIXED`.
        constant: times the ratio, but for `Mode.PAPER`.
        gap: L1 norms (T,) of the parameters minus their shadow.
        gradient: of the gradient.
        change: of the gradient minus that of the step before.
        moved: of the parameters minus those of the step before; but for `Mode.CODE`.
    """
    ratio = (1 + gradient) / (gap * change)
    if mode is Mode.CODE:
        return constant * ratio
    return moved * ratio if mode is Mode.PAPER else constant * moved * ratio


def in_range(numbers: Tensor) -> Tensor:
    """Which of the asked ``numbers`` can be weights: those in (0, 1), so none that is not a number."""
    return (numbers > 0) & (numbers < 1)


def partners(names: list[str], granularity: Granularity) -> Tensor:
    """Which of T parameters share a weight, (T, T) bool."""
    keys = names if granularity is Granularity.TENSOR else [name.rpartition(".")[0] for name in names]
    return torch.tensor([[granularity is Granularity.GLOBAL or a == b for b in keys] for a in keys], dtype=torch.bool)


def norms(tensors: Sequence[Tensor], shared: Tensor) -> Tensor:
    """L1 norms (T,) over each tensor and its `partners`; what is no number stays with these."""
    return torch.where(shared, torch.stack(torch._foreach_norm(list(tensors), 1)), 0.0).sum(1)


def summary(numbers: Tensor, names: list[str]) -> dict[str, Any]:
    """Fallbacks and `QUANTILES` (nearest ranks, None where not finite) of `asked` numbers (steps, T)."""
    fallbacks = (~in_range(numbers)).sum(0).tolist()
    rows = []
    for values in (numbers.flatten(), *numbers.T):
        ranked = values.sort().values[[round(q * (len(values) - 1)) for q in QUANTILES]].tolist()
        rows.append([value if math.isfinite(value) else None for value in ranked])
    each = {name: {"fallbacks": f, "asked": row} for name, f, row in zip(names, fallbacks, rows[1:], strict=True)}
    return {"updates": numbers.numel(), "fallbacks": sum(fallbacks), "asked": rows[0], "parameters": each}


@strategies.register(CoINConfig)
class CoIN(Inheriting):
    """The loop with a shadow of the weights, which begins as their past. No step waits for the device."""

    config: CoINConfig

    def begin(self, experience: Experience) -> None:
        """Line the weights up with their shadow; frozen ones need none."""
        super().begin(experience)
        parameters = dict(self.model.named_parameters())
        self.averaged = {name: p for name, p in parameters.items() if p.requires_grad and name in self.past}
        kept = [*self.averaged, *(name for name in self.past if name not in parameters)]  # buffers last
        self.past, self.live = ({name: side[name] for name in kept} for side in (self.past, self.live))
        self.shared = partners(list(self.averaged), self.config.granularity).to(self.problem.device)
        self.gradients: list[Tensor] = []  # of the step before
        started = self.trained_now()[: len(self.averaged)] if "paper" in self.config.mode.value else []
        self.before = [t.clone() for t in started]  # the parameters of the step before, where a formula needs them
        self.history: list[Tensor] = []  # what each step asked for

    @torch.no_grad()
    def after_step(self) -> None:
        """Let the shadow follow the weights."""
        if not self.averaged:
            return
        shadow = list(self.past.values())
        weights = self._weights(shadow)
        buffers = weights.mean().expand(len(shadow) - len(weights))
        ema_merge_(shadow, list(self.live.values()), torch.cat((weights, buffers)))

    def _weights(self, shadow: list[Tensor]) -> Tensor:
        count, config = len(self.averaged), self.config
        if config.mode is Mode.FIXED:
            return torch.full((count,), config.fallback, device=self.problem.device)
        live = self.trained_now()
        pairs = [(p.grad, rows) for p, rows in zip(self.averaged.values(), live[:count], strict=True)]
        if all(gradient is None for gradient, _ in pairs):
            raise RuntimeError("the step's gradients are gone: the dynamic EMA would silently be a fixed one")
        gradients = [torch.zeros_like(t) if g is None else leading(g, t).to(t.dtype) for g, t in pairs]
        changes = torch._foreach_sub(gradients, self.gradients or gradients)
        gaps = torch._foreach_sub(live[:count], shadow[:count])
        gap, gradient, change = (norms(tensors, self.shared) for tensors in (gaps, gradients, changes))
        moved = gap
        if self.before:
            moved = norms(torch._foreach_sub(live[:count], self.before), self.shared)
            torch._foreach_copy_(self.before, live[:count])
        self.gradients = gradients  # not copied: the loop drops gradients and never writes over them
        numbers = asked(config.mode, config.constant, gap, gradient, change, moved)
        self.history.append(numbers)
        weights = 1 - numbers if config.mode is Mode.PAPER else numbers
        return torch.where(in_range(numbers), weights, config.fallback).clamp_max(config.ceiling)

    def end(self, experience: Experience) -> None:
        """Put the shadow in the weights' place and sum up what was asked."""
        self.put(self.past.values())
        self.gradients, self.before = [], []

    def notes(self) -> dict[str, Any]:
        """How the weights came out."""
        return summary(torch.stack(self.history), list(self.averaged)) if self.history else {}
