"""Sequential LoRA: one set of low-rank adapters, trained on each experience in turn.

Hu et al. 2021, arXiv 2106.09685: W + (alpha / rank) B A with W frozen, A at random and B at 0 in the beginning, by
peft. The adapters go on from experience to experience, as in the LoraSeqFT row of TRACE (Wang et al. 2023, arXiv
2310.06762, table 1: rank 8, alpha 32, dropout 0.1, learning rate 1e-4). Rank and what is adapted stand under
``model.adapter``, so that any other strategy can train adapters too; this one only brings them along. Certificate: no
published number is reproduced yet.
"""

from __future__ import annotations

from dataclasses import dataclass

from clbench.finetune import FineTune, FineTuneConfig
from clbench.models.low_rank import no_adapters
from clbench.parallel import Sharding
from clbench.scenario import Modality
from clbench.strategy import Problem, strategies


@dataclass
class LoRAConfig(FineTuneConfig):
    """The shared fields."""


@strategies.register(LoRAConfig)
class LoRA(FineTune):
    """The bare loop on adapters."""

    spreads = frozenset({Sharding.NONE, Sharding.FULL})
    low_rank = True
    learns = frozenset({Modality.TEXTS})
    config: LoRAConfig

    @classmethod
    def skip(cls, config: LoRAConfig, problem: Problem) -> str | None:
        """It needs adapters."""
        return no_adapters(problem.model())
