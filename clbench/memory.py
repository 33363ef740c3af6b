"""Exemplar memory: rows of past experiences that may be replayed, under a capacity and a policy.

Every policy is one rule over priorities. Each row that arrives gets a priority, and the rows of lowest priority stay:
over all of them (reservoir) or class by class with an equal quota (the others). With independent uniform priorities
the kept rows are a uniform sample of all that arrived, which is what reservoir sampling (Vitter 1985) draws one row at
a time; here whole experiences arrive at once, without a loop over examples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from clbench.space import require
from clbench.table import Table


class Policy(Enum):
    """Which rows stay when the memory is full."""

    RESERVOIR = "reservoir"  # a uniform sample of everything seen
    CLASS_BALANCED = "class_balanced"  # a uniform sample of each class, equal quotas
    RING = "ring"  # the newest of each class, equal quotas
    HERDING = "herding"  # those that keep each class's mean feature, equal quotas (iCaRL, arXiv 1611.07725, alg. 4)


@dataclass
class MemoryConfig:
    """Exemplars kept for replay."""

    capacity: int = 0  # examples in total; 0: no memory
    policy: Policy = Policy.CLASS_BALANCED  # which exemplars stay when it is full
    batch_size: int = 32  # exemplars added to each training batch

    def __post_init__(self) -> None:
        require(self.capacity >= 0, "strategy.memory.capacity", ">= 0", self.capacity)
        require(self.batch_size >= 1, "strategy.memory.batch_size", ">= 1", self.batch_size)

    def require_none(self, where: str) -> None:
        """Check that no exemplar is kept ``where`` none is used, as in "for joint".

        Raises:
            ConfigError: there is room for one.
        """
        require(self.capacity == 0, "strategy.memory.capacity", f"0 {where}", self.capacity)

    def require_some(self, where: str) -> None:
        """Check that exemplars are kept ``where`` they are needed, as in "for replay".

        Raises:
            ConfigError: there is room for none.
        """
        require(self.capacity >= 1, "strategy.memory.capacity", f">= 1 {where}", self.capacity)


class ExemplarMemory:
    """At most ``capacity`` rows of the tables that were shown to it.

    Only row numbers are kept, not copies: all experiences of a stream share one source. What the rows weigh is
    reported all the same by `stored_bytes`, since a learner in the field would have to keep them.
    """

    def __init__(self, config: MemoryConfig) -> None:
        self.config = config
        self.rows = torch.empty(0, dtype=torch.int64)
        self.labels = torch.empty(0, dtype=torch.int64)
        self.priorities = torch.empty(0, dtype=torch.float64)
        self._row_bytes = 0

    def __len__(self) -> int:
        return len(self.rows)

    def update(
        self, table: Table, generator: torch.Generator, features: Callable[[Table], Tensor] | None = None
    ) -> None:
        """Show the memory all rows of an experience that has been learnt.

        Args:
            table: the experience's training rows.
            generator: on the CPU; draws the priorities.
            features: from a table to (N, F) float features; asked for by herding only.

        Raises:
            ValueError: herding without ``features``.
        """
        if not self.config.capacity:
            return
        labels = table.column("label").cpu()
        self.rows = torch.cat((self.rows, table.rows.cpu()))
        self.labels = torch.cat((self.labels, labels))
        self.priorities = torch.cat((self.priorities, self._priorities(table, labels, generator, features)))
        self._row_bytes = table.source.row_bytes
        kept = self._kept()
        self.rows, self.labels, self.priorities = self.rows[kept], self.labels[kept], self.priorities[kept]

    def draw(self, generator: torch.Generator) -> Tensor:
        """Row numbers of ``batch_size`` exemplars without repetition; all of them where there are fewer."""
        index = torch.randperm(len(self.rows), generator=generator, device=generator.device)
        return self.rows[index[: self.config.batch_size].to(self.rows.device)]

    def stored_bytes(self) -> int:
        """Bytes of the exemplars, were they copied."""
        return len(self.rows) * self._row_bytes

    def state(self) -> dict[str, Tensor]:
        """What `restore` needs."""
        return {
            "rows": self.rows,
            "labels": self.labels,
            "priorities": self.priorities,
            "row_bytes": torch.tensor(self._row_bytes),
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Become the memory whose `state` this is."""
        self.rows, self.labels, self.priorities = (state[name].cpu() for name in ("rows", "labels", "priorities"))
        self._row_bytes = int(state["row_bytes"])

    def _priorities(
        self,
        table: Table,
        labels: Tensor,
        generator: torch.Generator,
        features: Callable[[Table], Tensor] | None,
    ) -> Tensor:
        if self.config.policy is Policy.RING:
            newest = float(self.priorities.min()) if len(self.priorities) else 0.0
            return newest - 1 - torch.arange(len(labels), dtype=torch.float64)
        if self.config.policy is Policy.HERDING:
            if features is None:
                raise ValueError("herding needs features")
            return herding_ranks(features(table).cpu(), labels, self.config.capacity).double()
        return torch.rand(len(labels), generator=generator, dtype=torch.float64)

    def _kept(self) -> Tensor:
        if self.config.policy is Policy.RESERVOIR:
            return torch.argsort(self.priorities, stable=True)[: self.config.capacity]
        quota = self.config.capacity // len(self.labels.unique())
        return lowest_per_class(self.priorities, self.labels, quota)


class SeenRows:
    """All rows of the tables that were shown to it, by number, as in `ExemplarMemory`."""

    def __init__(self) -> None:
        self.rows = torch.empty(0, dtype=torch.int64)
        self._row_bytes = 0

    def __len__(self) -> int:
        return len(self.rows)

    def with_all_of(self, table: Table) -> Table:
        """Take all rows of a table in; a table of all that were seen."""
        self.rows = torch.cat((self.rows, table.rows.cpu()))
        self._row_bytes = table.source.row_bytes
        return Table(table.source, self.rows)

    def stored_bytes(self) -> int:
        """Bytes of every example seen, were they copied."""
        return len(self.rows) * self._row_bytes

    def state(self) -> dict[str, Any]:
        """What `restore` needs."""
        return {"seen": self.rows, "row_bytes": self._row_bytes}

    def restore(self, state: dict[str, Any]) -> None:
        """Become what had this `state`, whatever else is in it."""
        self.rows, self._row_bytes = state["seen"].cpu(), state["row_bytes"]


def lowest_per_class(priorities: Tensor, labels: Tensor, quota: int) -> Tensor:
    """Positions of the ``quota`` lowest priorities of each class.

    Args:
        priorities: (N,) float.
        labels: (N,) int64.
        quota: rows per class; a class with fewer keeps all.

    Returns:
        (M,) int64, sorted by class, then by priority.
    """
    order = torch.argsort(priorities, stable=True)
    order = order[torch.argsort(labels[order], stable=True)]
    counts = labels.unique(return_counts=True)[1]
    starts = counts.cumsum(0) - counts
    place = torch.arange(len(order)) - starts.repeat_interleave(counts)
    return order[place < quota]


def herding_ranks(features: Tensor, labels: Tensor, limit: int) -> Tensor:
    """The place of each row in its class's herding order; ``limit`` for rows that come later than that.

    Args:
        features: (N, F) float; normalised to length 1 here.
        labels: (N,) int64.
        limit: places to fill per class.

    Returns:
        (N,) int64. iCaRL (arXiv 1611.07725), algorithm 4: each step takes the row that brings the mean of the rows
        taken so far nearest to the class mean.
    """
    ranks = torch.full((len(labels),), limit)
    unit = F.normalize(features.double(), dim=1)
    for label in labels.unique():
        members = (labels == label).nonzero()[:, 0]
        ranks[members] = _herd(unit[members], limit)
    return ranks


def _herd(unit: Tensor, limit: int) -> Tensor:
    mean, total = unit.mean(0), torch.zeros_like(unit[0])
    ranks = torch.full((len(unit),), limit)
    for place in range(min(limit, len(unit))):
        distance = ((total + unit) / (place + 1) - mean).square().sum(1)
        distance[ranks < limit] = torch.inf
        chosen = int(distance.argmin())
        ranks[chosen] = place
        total += unit[chosen]
    return ranks
