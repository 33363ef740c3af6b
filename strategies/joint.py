"""Train on all data seen so far, anew at each experience: the upper bound.

It keeps every example, so what its old experiences lose is the price of more classes to choose from, not forgetting.
Its accuracy after each experience is the reference J_t of intransigence (Chaudhry et al. 2018, arXiv 1801.10112,
section 3.2). Its cost grows with the square of the number of experiences. Certificate: no published number is
reproduced yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from clbench.finetune import FineTune, FineTuneConfig
from clbench.memory import SeenRows
from clbench.parallel import Sharding
from clbench.scenario import Experience, Stream
from clbench.strategy import Problem, strategies
from clbench.table import Table


@dataclass
class JointConfig(FineTuneConfig):
    """The shared fields."""

    from_scratch: bool = True  # begin from a fresh initialisation (or the given checkpoint) at each experience

    def __post_init__(self) -> None:
        super().__post_init__()
        self.memory.require_none("for joint")


@strategies.register(JointConfig)
class Joint(FineTune):
    """The loop over everything seen."""

    spreads = frozenset({Sharding.NONE, Sharding.FULL})
    config: JointConfig

    def __init__(self, config: JointConfig, problem: Problem) -> None:
        super().__init__(config, problem)
        self.seen = SeenRows()

    @classmethod
    def access(cls, config: JointConfig) -> str:
        """All of them."""
        return f"cumulative, {'from the start' if config.from_scratch else 'continued'}"

    def learn(self, experience: Experience) -> None:
        """Learn this experience and all before it."""
        if self.config.from_scratch and len(self.seen):
            self.model = self.problem.model()
        super().learn(experience)

    def training_table(self, experience: Experience) -> Table:
        """All rows seen so far."""
        return self.seen.with_all_of(experience.train)

    def stored_bytes(self) -> int:
        """Bytes of every example seen."""
        return self.seen.stored_bytes()

    def state(self) -> dict[str, Any]:
        """The model, and which examples were seen."""
        return {**super().state(), **self.seen.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on as the strategy whose `state` this is would."""
        super().restore(state)
        self.seen.restore(state)

    @classmethod
    def workload(cls, stream: Stream) -> int:
        """Each experience visits all examples up to it."""
        sizes = [len(e.train) for e in stream.experiences]
        return sum(sum(sizes[: i + 1]) for i in range(len(sizes)))
