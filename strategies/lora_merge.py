"""LoRA, merged: low-rank adapters are folded into the weights after each experience, and begin anew.

After each experience W becomes W + (alpha / rank) B A, A is drawn anew and B is 0 again (the merging of Hu et al. 2021,
arXiv 2106.09685, section 4.1, done once per experience): each experience may change the weights by a matrix of the
given rank, and nothing holds on to what came before. Certificate: no published number is reproduced yet.
"""

from __future__ import annotations

from dataclasses import dataclass

from clbench.folding import Folding, FoldingConfig
from clbench.parallel import Sharding
from clbench.strategy import strategies


@dataclass
class LoRAMergeConfig(FoldingConfig):
    """The shared fields."""


@strategies.register(LoRAMergeConfig)
class LoRAMerge(Folding):
    """Folding adapters, and nothing else."""

    spreads = frozenset({Sharding.NONE, Sharding.FULL})
    config: LoRAMergeConfig
