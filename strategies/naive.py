"""Fine-tune on each experience in turn: the lower bound.

Every method must beat this one. Certificate: no published number is reproduced yet.
"""

from __future__ import annotations

from dataclasses import dataclass

from clbench.finetune import FineTune, FineTuneConfig
from clbench.parallel import Sharding
from clbench.strategy import strategies


@dataclass
class NaiveConfig(FineTuneConfig):
    """The shared fields only."""


@strategies.register(NaiveConfig)
class Naive(FineTune):
    """The bare loop."""

    spreads = frozenset({Sharding.NONE, Sharding.FULL})
