"""AdaLoRA: sequential low-rank adapters whose ranks are shared out by importance.

Zhang et al. 2023, arXiv 2303.10512, by peft. A matrix is changed by P diag(E) Q. Each experience begins with
``initial`` times ``model.adapter.rank`` directions per matrix; after a share ``warmup_ranks`` of its steps the number
falls, cubically, to ``model.adapter.rank`` on average, until a share ``final_ranks`` of them is left. Which remain
depends on importance, smoothed sensitivity times its smoothed uncertainty (section 3.2): the E of all others is set to
0 after each step. The loss gains ``orthogonality`` times the mean over all P and Q of |P^T P - I| and |Q Q^T - I|,
Frobenius norms (equation 4 has their squares, peft and so this file has not).

The paper has one task. Here, as in `lora`, the adapters go on from experience to experience, and ranks are shared out
anew in each: directions that were left out begin again from E = 0 and compete, so that all experiences together have
``model.adapter.rank`` directions per matrix in the end. An experience of a single step shares nothing out. The change
is scaled by alpha / (initial rank), as peft does.

Certificate: no published number is reproduced yet.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from clbench.finetune import FineTune, FineTuneConfig
from clbench.models.low_rank import allocate, directions, no_single_set, ranks, share_out, with_ranks
from clbench.models.routed import RoutedModel
from clbench.scenario import Experience, Modality
from clbench.space import require
from clbench.strategy import Problem, strategies
from clbench.table import Batch


@dataclass
class AdaLoRAConfig(FineTuneConfig):
    """The shared fields, and how ranks are shared out."""

    initial: float = 1.5  # directions in the beginning, as a multiple of model.adapter.rank
    warmup_ranks: float = 0.1  # share of an experience's steps before the number falls
    final_ranks: float = 0.3  # share of its steps after it has fallen
    orthogonality: float = 0.5  # weight of the penalty

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.initial > 1, "strategy.initial", "> 1", self.initial)
        require(self.warmup_ranks >= 0, "strategy.warmup_ranks", ">= 0", self.warmup_ranks)
        require(self.final_ranks >= 0, "strategy.final_ranks", ">= 0", self.final_ranks)
        together = self.warmup_ranks + self.final_ranks
        require(together < 1, "strategy.warmup_ranks + strategy.final_ranks", "< 1", together)
        require(self.orthogonality >= 0, "strategy.orthogonality", ">= 0", self.orthogonality)


def departure(rows: Tensor) -> Tensor:
    """|R R^T - I|, the Frobenius norm, (): 0 where the rows (K, F) are orthonormal."""
    apart = rows @ rows.T - torch.eye(len(rows), device=rows.device, dtype=rows.dtype)
    length: Tensor = torch.linalg.matrix_norm(apart)
    return length


@strategies.register(AdaLoRAConfig)
class AdaLoRA(FineTune):
    """The loop on adapters whose ranks are shared out after each step."""

    low_rank = True
    learns = frozenset({Modality.TEXTS})
    spreads = frozenset()
    config: AdaLoRAConfig

    def __init__(self, config: AdaLoRAConfig, problem: Problem) -> None:
        super().__init__(config, problem)
        with_ranks(self.routed, math.ceil(config.initial * self.routed.config.rank))
        self._done = self._total = 0

    @property
    def routed(self) -> RoutedModel:
        """The model, which has adapters."""
        return cast(RoutedModel, self.model)

    @classmethod
    def skip(cls, config: AdaLoRAConfig, problem: Problem) -> str | None:
        """It needs one set of adapters."""
        return no_single_set(problem.model())

    def begin(self, experience: Experience) -> None:
        """Lay out the course of the ranks."""
        batches = self.training_table(experience).batch_count(self.config.batch_size)
        self._done, self._total = 0, self.config.epochs * math.ceil(batches / self.config.accumulate)
        shares = self.config.warmup_ranks, self.config.final_ranks
        share_out(self.routed, self._total, *(int(share * self._total) for share in shares))

    def loss(self, batch: Batch) -> Tensor:
        """Cross-entropy and the penalty."""
        loss = super().loss(batch)
        if not self.config.orthogonality:
            return loss
        rows = [matrix for p, q in directions(self.routed) for matrix in (p.T, q)]
        return loss + self.config.orthogonality * torch.stack([departure(matrix) for matrix in rows]).mean()

    def after_step(self) -> None:
        """Take the least important directions away."""
        self._done += 1
        if self._total > 1:
            allocate(self.routed, self._done)

    def notes(self) -> dict[str, Any]:
        """How many directions each matrix has."""
        return {"ranks": ranks(self.routed)}
