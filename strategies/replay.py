"""Experience replay: exemplars of past experiences join each batch.

The loss is the mean cross-entropy over new examples and exemplars together (Chaudhry et al., "On Tiny Episodic
Memories in Continual Learning", arXiv 1902.10486, there with one pass over the data). The memory is filled after each
experience, so an experience never replays itself. Certificate: no published number is reproduced yet.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from clbench.finetune import FineTune, FineTuneConfig
from clbench.memory import MemoryConfig
from clbench.parallel import Sharding
from clbench.strategy import strategies


@dataclass
class ReplayConfig(FineTuneConfig):
    """The shared fields, with a memory."""

    memory: MemoryConfig = field(default_factory=lambda: MemoryConfig(capacity=200))

    def __post_init__(self) -> None:
        super().__post_init__()
        self.memory.require_some("for replay")


@strategies.register(ReplayConfig)
class Replay(FineTune):
    """The bare loop with an exemplar memory, which `FineTune` brings along."""

    spreads = frozenset({Sharding.NONE, Sharding.FULL})
    config: ReplayConfig
