"""Half-Reset: after each experience a random half of the matrices goes back to what it was before.

The training-free pilot of half fine-tuning (Hui et al., arXiv 2404.18466, which resets half of the parameters of a
tuned model to those of the model that it was tuned from) and a control for it: everything trains, and what `hft` would
have frozen is undone afterwards. The half is drawn within the categories of each block (`clbench.half`), anew for each
experience; what lies outside the blocks keeps what it has learnt.

What differs from the paper: there one model is reset once, here every experience is reset to what the one before it
left. A model that begins here at random would go back to noise, so its first experience is not reset (``first_held``
says otherwise). A batch norm that goes back takes its statistics along. Certificate: no published number is reproduced
yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from clbench import seeding
from clbench.half import Level, draw, no_half, units
from clbench.inherited import Inheriting, InheritingConfig
from clbench.parallel import Sharding
from clbench.scenario import Experience
from clbench.space import require
from clbench.strategy import Problem, strategies


@dataclass
class HalfResetConfig(InheritingConfig):
    """The shared fields and the share."""

    ratio: float = 0.5  # share of the blocks' matrices that keeps what it has learnt

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.ratio <= 1, "strategy.ratio", "in [0, 1]", self.ratio)


@strategies.register(HalfResetConfig)
class HalfReset(Inheriting):
    """The loop with a reset at its end."""

    spreads = frozenset({Sharding.NONE, Sharding.FULL})
    config: HalfResetConfig

    def __init__(self, config: HalfResetConfig, problem: Problem) -> None:
        super().__init__(config, problem)
        self.reset: list[str] = []

    @classmethod
    def skip(cls, config: HalfResetConfig, problem: Problem) -> str | None:
        """A share of the matrices needs whole matrices to choose from."""
        return None if config.ratio == 1 else no_half(problem.model())

    def end(self, experience: Experience) -> None:
        """Put the units that are not drawn back."""
        self.reset = []
        if not self.past:
            return
        members = units(self.model)
        generator = seeding.generator(self.problem.seed, "reset", experience.index)
        kept = draw(members, self.config.ratio, Level.CATEGORY, generator)
        self.reset = [unit.name for unit in members if unit.name not in kept]
        back = set(self.reset)
        for name, old in self.past.items():
            if name.rpartition(".")[0] in back:
                self.live[name].copy_(old)

    def notes(self) -> dict[str, Any]:
        """Which modules went back."""
        return {"reset": self.reset}
