"""WiSE-FT: each experience ends between the weights before it and those it was trained to.

Wortsman et al. 2022, "Robust fine-tuning of zero-shot models", arXiv 2109.01903. After every experience:

    theta = (1 - weight) theta_before + weight theta_after,        weight = alpha in the paper, which advises 0.5

What differs from the paper: there one fine-tuning follows one pre-training; here every experience is mixed with what
the one before it left, as later work on streams does. A model that begins here at random would be mixed with noise, so
unless it is pre-trained its first experience is not (``first_held``). The paper's zero-shot head has a row for every
class; rows that our head grew for the experience have no weights before and stay as they were trained, while in a
task-incremental stream all rows stand from the start and all are mixed. Batch-norm statistics are mixed like the
weights, as the released code, which mixes the whole state, would. Certificate: no published number is reproduced yet.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from clbench.inherited import Inheriting, InheritingConfig
from clbench.parallel import Sharding
from clbench.scenario import Experience
from clbench.space import Uniform, require, searched
from clbench.strategy import strategies


@dataclass
class WiSEFTConfig(InheritingConfig):
    """The shared fields and the mixture's."""

    weight: float = searched(0.5, Uniform(0.0, 1.0))  # of the trained weights; 0: as before, 1: naive

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.weight <= 1, "strategy.weight", "in [0, 1]", self.weight)


@strategies.register(WiSEFTConfig)
class WiSEFT(Inheriting):
    """The loop with a mixture at its end."""

    spreads = frozenset({Sharding.NONE, Sharding.FULL})
    config: WiSEFTConfig

    def end(self, experience: Experience) -> None:
        """Mix the weights with their past."""
        if self.past:
            self.put(torch._foreach_lerp(list(self.past.values()), self.trained_now(), self.config.weight))
