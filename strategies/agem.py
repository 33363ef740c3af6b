"""Averaged GEM: no step may raise the mean loss on exemplars drawn from all past experiences.

Chaudhry et al. 2019, "Efficient Lifelong Learning with A-GEM", arXiv 1812.00420, section 4. With g the gradient of the
batch and r that of the loss on ``memory.batch_size`` exemplars, drawn for each step from those of all past experiences,
the step follows g where <g, r> >= 0 and else (equation 11)

    g - <g, r> / <r, r> r,       the nearest direction along which the loss on these exemplars does not rise

One constraint in place of one for each experience (`gem`), without a quadratic program. ``ratio=0.5`` is half
fine-tuning with A-GEM (`clbench.half`): g and r are then those of the half that trains.

What differs from the paper: it passes over the data once and fills the memory on the way, here the memory is filled
after each experience. As in the authors' code, exemplars are not augmented. Batch norm sees them as a batch of their
own and its statistics follow them too. Certificate: no published number is reproduced yet.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from clbench import seeding
from clbench.gradients import Projecting, ProjectingConfig
from clbench.scenario import Experience
from clbench.strategy import strategies
from clbench.table import Table


@dataclass
class AGEMConfig(ProjectingConfig):
    """The shared fields; ``memory.batch_size`` exemplars give the reference."""


def project(gradient: Tensor, reference: Tensor) -> Tensor:
    """``gradient`` (P,) without its part against ``reference`` (P,), both float; itself where it has none."""
    product = gradient @ reference
    against = product / (reference @ reference)
    # where, not if: to ask which it is would wait for the GPU
    return torch.where(product < 0, gradient - against * reference, gradient)


@strategies.register(AGEMConfig)
class AGEM(Projecting):
    """The loop with one constraint, drawn anew for each step."""

    config: AGEMConfig

    def begin(self, experience: Experience) -> None:
        """Begin this experience's draws."""
        super().begin(experience)
        self.draws = seeding.generator(self.problem.seed, "reference", experience.index)

    def projected(self, gradient: Tensor) -> Tensor:
        """The nearest direction that does not raise the loss on this step's exemplars."""
        return project(gradient, self.gradient_of(Table(self.kept.source, self.memory.draw(self.draws))))
