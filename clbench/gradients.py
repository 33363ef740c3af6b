"""Exemplars as constraints: they never join a batch, but say which way a step may not go.

Strategies that project the gradient share this loop. Between the gradient of a batch and the step along it,

    gradient = projected(gradient),

for which the subclass asks `Projecting.gradient_of` any exemplars it likes. Only what the step moves takes part, so on
half of the matrices (`clbench.half`) the references are those of that half.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from clbench.half import Half, HalfConfig
from clbench.memory import MemoryConfig
from clbench.scenario import Experience
from clbench.table import Table


@dataclass
class ProjectingConfig(HalfConfig):
    """The shared fields, with a memory; its ``batch_size`` are exemplars per pass through the network."""

    memory: MemoryConfig = field(default_factory=lambda: MemoryConfig(capacity=200))

    def __post_init__(self) -> None:
        super().__post_init__()
        self.memory.require_some("where exemplars are the constraints")


def flat(gradients: Iterable[Tensor]) -> Tensor:
    """All elements in one vector (P,), at least float32."""
    return torch.cat([g.flatten().to(torch.promote_types(g.dtype, torch.float32)) for g in gradients])


def assign(parameters: Iterable[nn.Parameter], values: Tensor) -> None:
    """Write ``values`` (P,), in the order of `flat`, into the gradients of ``parameters``, which must have one."""
    start = 0
    for parameter in parameters:
        assert parameter.grad is not None
        parameter.grad.copy_(values[start : start + parameter.numel()].view_as(parameter))
        start += parameter.numel()


class Projecting(Half):
    """The loop with a projection of each gradient, from the first experience on that has exemplars behind it.

    Attributes:
        kept: exemplars of all past experiences.
        moved: parameters that the step at hand moves: those with a gradient.
    """

    config: ProjectingConfig

    def begin(self, experience: Experience) -> None:
        """Freeze what does not train and look up the exemplars."""
        super().begin(experience)
        self.kept = Table(experience.train.source, self.memory.rows)

    def exemplars(self, draws: torch.Generator) -> Tensor:
        """None: they do not join the batches."""
        return self.memory.rows[:0]

    def after_backward(self) -> None:
        """Exchange the gradient for its projection."""
        if not len(self.kept):
            return
        self.moved = [p for p in self.model.parameters() if p.grad is not None]
        gradient = flat(p.grad for p in self.moved if p.grad is not None)
        assign(self.moved, self.projected(gradient))

    @abstractmethod
    def projected(self, gradient: Tensor) -> Tensor:
        """The gradient (P,) to step along in place of ``gradient`` (P,), which may be itself."""

    def gradient_of(self, table: Table) -> Tensor:
        """Gradient (P,) of the loss on a table's examples, not augmented, by the parameters in `moved`.

        Each pass of ``memory.batch_size`` examples weighs as much as it holds. The network is in training mode, so
        batch norm sees a pass as a batch of its own.
        """
        device = self.problem.device.type
        total = torch.zeros(sum(p.numel() for p in self.moved), device=self.problem.device)
        for stored in table.batches(self.config.memory.batch_size):
            batch = self.problem.transform.evaluate(stored)
            with torch.autocast(device, torch.bfloat16, enabled=self.config.amp and device == "cuda"):
                loss = self.loss(batch)
            share = len(next(iter(stored.values()))) / len(table)
            gradients = torch.autograd.grad(loss, self.moved, allow_unused=True, materialize_grads=True)
            total = total + share * flat(gradients)
        return total
