"""O-LoRA: each experience learns in low-rank adapters orthogonal to those before.

Wang et al. 2023, "Orthogonal Subspace Learning for Language Model Continual Learning", arXiv 2310.14152, equations 5-8.
The adapters of past experiences stay as they are and go on to add to the output; the loss of experience t is

    cross-entropy + orthogonality * sum over past i, modules of  sum |A_i A_t^T|  +  decay * sum of squares of A_t, B_t

with the paper's weights 0.5 and 0 and rank 8 (the released code takes the sum of absolute values, the paper writes
squares). A frozen adapter is a constant matrix, so here past ones are folded into the weights, which gives the same
outputs up to rounding, and only their A are kept. Certificate: no published number is reproduced yet.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from clbench.folding import Folding, FoldingConfig
from clbench.models.low_rank import adapters, down
from clbench.scenario import Experience
from clbench.space import LogUniform, require, searched
from clbench.strategy import strategies
from clbench.table import Batch


@dataclass
class OLoRAConfig(FoldingConfig):
    """The shared fields and those of the penalty."""

    orthogonality: float = searched(0.5, LogUniform(1e-3, 10.0))  # weight of the overlap with past subspaces
    decay: float = 0.0  # weight of the new adapters' squares

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.orthogonality >= 0, "strategy.orthogonality", ">= 0", self.orthogonality)
        require(self.decay >= 0, "strategy.decay", ">= 0", self.decay)


def overlap(past: Tensor, new: Tensor) -> Tensor:
    """Sum of |past new^T|, (): 0 where every past direction is orthogonal to every new one.

    Args:
        past: (R, inputs), the rows of all past A of one module.
        new: (rank, inputs).
    """
    return (past @ new.T).abs().sum()


@strategies.register(OLoRAConfig)
class OLoRA(Folding):
    """Folding adapters that keep out of the way of past ones, whose A are auxiliary tensors."""

    config: OLoRAConfig

    def begin(self, experience: Experience) -> None:
        """Find the adapters."""
        self.layers = adapters(self.model)

    def loss(self, batch: Batch) -> Tensor:
        """Cross-entropy and penalties."""
        loss = super().loss(batch)
        if self.auxiliary and self.config.orthogonality:
            shared = [overlap(self.auxiliary[name], down(layer)) for name, layer in self.layers.items()]
            loss = loss + self.config.orthogonality * torch.stack(shared).sum()
        if self.config.decay:
            trained = [p for p in self.model.parameters() if p.requires_grad]
            loss = loss + self.config.decay * torch.stack([p.square().sum() for p in trained]).sum()
        return loss

    def end(self, experience: Experience) -> None:
        """Keep the new directions, then fold."""
        for name, layer in self.layers.items():
            new = down(layer).detach().clone()
            self.auxiliary[name] = torch.cat([t for t in (self.auxiliary.get(name), new) if t is not None])
        super().end(experience)
