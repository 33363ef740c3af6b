"""Task arithmetic: every experience is learnt from the same start, and the changes are added up.

Ilharco et al. 2023, "Editing Models with Task Arithmetic", arXiv 2212.04089, sections 2 and 4. With theta_0 the weights
of the start and theta_t those that experience t, trained from theta_0 alone, ends with, the model after it is

    theta = theta_0 + scale * sum over s <= t of (theta_s - theta_0)

so neither the order nor what came before matters to a task vector theta_s - theta_0.

What differs from the paper: its start is the pre-trained model. A model that begins here at random has none, so there
the first experience is trained as usual and what it leaves is theta_0 (``first_held``, the first experience with a task
vector, says otherwise). The paper chooses ``scale`` on held-out data of all tasks; default and range are ours. Its
heads are given and stay; rows that our head grew since theta_0 are no part of any vector and stay as the experience
that brought them left them, although they compete in the loss of later ones. In a task-incremental stream all rows
stand from the start and belong to the vectors. Batch-norm statistics, which the paper's models lack, are averaged over
theta_1 .. theta_t: a sum could make a variance negative. Certificate: no published number is reproduced yet.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from clbench.inherited import Inheriting, InheritingConfig, leading
from clbench.parallel import Sharding
from clbench.scenario import Experience
from clbench.space import Uniform, require, searched
from clbench.strategy import strategies


@dataclass
class TaskArithmeticConfig(InheritingConfig):
    """The shared fields and the sum's."""

    scale: float = searched(0.4, Uniform(0.0, 1.0))  # of the sum of task vectors

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.scale >= 0, "strategy.scale", ">= 0", self.scale)


def added(before: Tensor, tuned: Tensor, start: Tensor, scale: float) -> Tensor:
    """``before + scale * (tuned - start)`` in the rows that ``start`` has, ``before`` in later ones.

    Args:
        before: the sum so far.
        tuned: of the shape of ``before``.
        start: leading rows, or all.
        scale: of the task vector.
    """
    total = before.clone()
    leading(total, start).add_(leading(tuned, start) - start, alpha=scale)
    return total


@strategies.register(TaskArithmeticConfig)
class TaskArithmetic(Inheriting):
    """The loop from one start each time; the start is what is stored, the sum is the model itself."""

    spreads = frozenset({Sharding.NONE, Sharding.FULL})
    config: TaskArithmeticConfig

    def begin(self, experience: Experience) -> None:
        """Go back to the start, or remember it."""
        super().begin(experience)
        if not self.auxiliary:
            self.auxiliary = dict(self.past)
        for name, start in self.auxiliary.items():
            leading(self.live[name], start).copy_(start)

    def end(self, experience: Experience) -> None:
        """Add this experience's task vector to the sum, and its batch-norm statistics to their mean."""
        parameters = {name for name, _ in self.model.named_parameters()}
        count = experience.index - self.first + 1
        totals = []
        for (name, before), tuned in zip(self.past.items(), self.trained_now(), strict=True):
            if name not in parameters:
                totals.append(before + (tuned - before) / count)
            elif name in self.auxiliary:
                totals.append(added(before, tuned, self.auxiliary[name], self.config.scale))
            else:
                totals.append(before)
        self.put(totals)
