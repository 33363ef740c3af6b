"""What an experience inherits: the model's numbers as they were before it, without the rows that its head then grew.

Strategies that average, mix or anchor weights share this loop. A head grows at its end (`clbench.models.head`), so what
a tensor inherits are its leading rows. Rows that are new have no past worth holding to: they stay as they are trained.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from clbench.finetune import FineTune, FineTuneConfig
from clbench.scenario import Experience
from clbench.space import require
from clbench.strategy import Problem


@dataclass
class InheritingConfig(FineTuneConfig):
    """The shared fields and the experience that inherits first."""

    first_held: int | None = None  # first experience that is held to its past; null: 0 if pre-trained, else 1

    def __post_init__(self) -> None:
        super().__post_init__()
        allowed = self.first_held is None or self.first_held >= 0
        require(allowed, "strategy.first_held", ">= 0 or null", self.first_held)


def numbers(model: nn.Module) -> dict[str, Tensor]:
    """All that the model's answers depend on: parameters, then floating-point buffers that its state keeps.

    Batch norm's statistics belong to the weights that they were taken with, so whoever averages one averages both.
    """
    kept = model.state_dict(keep_vars=True)
    buffers = {name: b for name, b in model.named_buffers() if name in kept and b.is_floating_point()}
    return {name: tensor.detach() for name, tensor in [*model.named_parameters(), *buffers.items()]}


def copies(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies, at least float32: in bfloat16 a hundredth of a step would be rounded away. Empty ones are left out."""
    return {
        name: tensor.to(torch.promote_types(tensor.dtype, torch.float32), copy=True)
        for name, tensor in tensors.items()
        if tensor.numel()
    }


def leading(tensor: Tensor, like: Tensor) -> Tensor:
    """As many rows of ``tensor`` as ``like`` has, in the same memory."""
    return tensor[: len(like)] if tensor.dim() else tensor


class Inheriting(FineTune):
    """The loop, with what the model was before the experience at hand.

    Attributes:
        first: index of the first experience that is held to its past.
        past: copies by name, taken before the model grew; empty outside of `learn` and where nothing is held to.
        live: the same rows of the model that is trained, under the same names and in its memory.
    """

    config: InheritingConfig

    def __init__(self, config: InheritingConfig, problem: Problem) -> None:
        super().__init__(config, problem)
        self.first = problem.first_with_past if config.first_held is None else config.first_held
        self.past: dict[str, Tensor] = {}
        self.live: dict[str, Tensor] = {}

    def learn(self, experience: Experience) -> None:
        """Keep the past, learn one experience, let the past go."""
        self.past = copies(numbers(self.model)) if experience.index >= self.first else {}
        super().learn(experience)
        self.past, self.live = {}, {}

    def begin(self, experience: Experience) -> None:
        """Line the model up with its past, the head having grown."""
        now = numbers(self.model)
        self.live = {name: leading(now[name], old) for name, old in self.past.items()}

    def trained_now(self) -> list[Tensor]:
        """The values of `live`, in the precision of `past`."""
        return [live.to(old.dtype) for live, old in zip(self.live.values(), self.past.values(), strict=True)]

    def put(self, values: Iterable[Tensor]) -> None:
        """Write ``values``, in the order of `past`, into the model."""
        for live, value in zip(self.live.values(), values, strict=True):
            live.copy_(value)
