"""Fixed EMA: each experience ends with the running average of its weights.

With theta_t the weights after step t and theta*_0 those before the experience,

    theta*_t = decay theta*_(t-1) + (1 - decay) theta_t,

and theta* replaces theta after the last step; until then gradients are taken at theta. It is the fixed average that
Qiao et al. 2025 (arXiv 2410.10868) compare their dynamic one with, at 0.99, and the average of weights of Tarvainen &
Valpola 2017 (arXiv 1703.01780) without their consistency loss.

What differs from the paper: it starts from a pre-trained model. A model that begins here at random would be averaged
with noise, so its first experience is not averaged (``first_held`` says otherwise). Rows that the head grew for the
experience have no past to average with and end as they were trained; in a task-incremental stream all rows stand from
the start and all are averaged. Batch-norm statistics, which the paper's models lack, are averaged too. The average is
kept in float32. Certificate: no published number is reproduced yet.
"""

from __future__ import annotations

from dataclasses import dataclass

from clbench.inherited import Inheriting, InheritingConfig
from clbench.kernels.ema_merge import ema_merge_
from clbench.scenario import Experience
from clbench.space import Choice, require, searched
from clbench.strategy import strategies


@dataclass
class FixedEMAConfig(InheritingConfig):
    """The shared fields and the average's."""

    decay: float = searched(0.99, Choice((0.9, 0.99, 0.995, 0.999, 0.9999)))  # weight of the average so far

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.decay <= 1, "strategy.decay", "in [0, 1]", self.decay)


@strategies.register(FixedEMAConfig)
class FixedEMA(Inheriting):
    """The loop with a shadow of the weights, which begins as their past."""

    config: FixedEMAConfig

    def after_step(self) -> None:
        """Let the shadow follow the weights."""
        ema_merge_(list(self.past.values()), list(self.live.values()), 1 - self.config.decay)

    def end(self, experience: Experience) -> None:
        """Put the shadow in the weights' place."""
        self.put(self.past.values())
