"""L2-SP: weight decay towards the starting point instead of towards zero.

Loss (Li et al. 2018, arXiv 1802.01483), with w_S the weights that the experience inherited, w_S^0 their
values at its start and w_N the others:

    cross-entropy + strength / 2 |w_S - w_S^0|^2 + new_strength / 2 |w_N|^2        (alpha and beta in the paper)

The penalty takes weight decay's place, which is therefore 0 by default.

What differs from the paper: there is one starting point, the pre-trained model. Here by default it moves on with each
experience; ``anchor=first`` keeps the one of the first experience that is held. A model that begins here at random has
no start worth holding to, so its first experience counts as new altogether (``first_held`` says otherwise). Rows that
the head has grown since the start count as new. Every trained parameter is held, those of norms and biases too.
Certificate: no published number is reproduced yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from clbench.inherited import Inheriting, InheritingConfig
from clbench.scenario import Experience
from clbench.space import LogUniform, require, searched
from clbench.strategy import Problem, strategies
from clbench.table import Batch


class Anchor(Enum):
    """Which start the weights are held to."""

    PREVIOUS = "previous"  # that of the experience at hand
    FIRST = "first"  # that of the first experience that is held: the paper's, for a pre-trained model


@dataclass
class L2SPConfig(InheritingConfig):
    """The shared fields and the penalty's."""

    strength: float = searched(0.1, LogUniform(1e-3, 10.0))  # towards the start, alpha in the paper
    new_strength: float = searched(0.01, LogUniform(1e-5, 1e-2))  # of new weights towards zero, beta in the paper
    anchor: Anchor = Anchor.PREVIOUS  # which start
    weight_decay: float = 0.0  # towards zero, of all weights, in addition

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.strength >= 0, "strategy.strength", ">= 0", self.strength)
        require(self.new_strength >= 0, "strategy.new_strength", ">= 0", self.new_strength)


def squares(weights: Sequence[Tensor], starts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Squared distance (), of what has a start, from it; squared norm () of what has none.

    Args:
        weights: of any shapes.
        starts: constants; leading rows of each weight, or empty.
    """
    flat = [(weight.flatten(), start.flatten()) for weight, start in zip(weights, starts, strict=True)]
    moved = torch.cat([weight[: len(start)] - start for weight, start in flat])
    new = torch.cat([weight[len(start) :] for weight, start in flat])
    return moved.square().sum(), new.square().sum()


@strategies.register(L2SPConfig)
class L2SP(Inheriting):
    """The loop with a quadratic penalty; the start is an auxiliary tensor where it is kept for good."""

    config: L2SPConfig

    def __init__(self, config: L2SPConfig, problem: Problem) -> None:
        super().__init__(config, problem)
        self.weights: list[Tensor] = []
        self.starts: list[Tensor] = []

    def begin(self, experience: Experience) -> None:
        """Line the weights up with their start, the head having grown."""
        super().begin(experience)
        trained = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        if self.config.anchor is Anchor.FIRST and not self.auxiliary:
            self.auxiliary = {name: old for name, old in self.past.items() if name in trained}
        known = self.auxiliary or self.past
        self.weights = list(trained.values())
        self.starts = [known.get(name, p.detach().new_empty(0)) for name, p in trained.items()]

    def loss(self, batch: Batch) -> Tensor:
        """Cross-entropy and the penalty."""
        moved, new = squares(self.weights, self.starts)
        return super().loss(batch) + 0.5 * (self.config.strength * moved + self.config.new_strength * new)
