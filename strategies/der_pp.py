"""Dark experience replay++: exemplars are answered with the logits of before.

Loss (DER++ in Buzzega et al. 2020, arXiv 2004.07211), with B the new examples of the step, M and M' two batches
drawn from the memory independently of each other, h the logits and z those that were stored with an exemplar:

    cross-entropy(B) + alpha * mean over M of |h(x) - z|^2 / c  +  beta * cross-entropy(M')

c is the number of outputs there were when the exemplar was stored, and only these are compared: outputs that came later
had no logit then. The division by c is that of the authors' code, which the ranges of alpha below refer to; the
equation has none. ``memory.batch_size`` is the size of M and of M' each.

What differs from the paper: there the reservoir takes in examples at every step, with the logits of that step; here
the memory is filled after each experience, with the logits at its end of the images as they are, in evaluation mode,
and an experience never replays itself. Exemplars that stay keep their logits for good. B, M and M' go through the
network together, so batch norm sees them as one batch (three in the authors' code). In a task-incremental stream the
cross-entropies run over the example's own task and the logits of all classes learnt so far are compared.
Certificate: no published number is reproduced yet.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from clbench.finetune import EVALUATION_BATCH, FineTuneClassifier, FineTuneConfig
from clbench.memory import MemoryConfig, Policy
from clbench.scenario import Experience
from clbench.space import LogUniform, require, searched
from clbench.strategy import Problem, strategies
from clbench.table import Batch, Table


@dataclass
class DERppConfig(FineTuneConfig):
    """The shared fields, with a reservoir, and the two weights."""

    alpha: float = searched(0.2, LogUniform(0.1, 2.0))  # weight of the stored logits
    beta: float = searched(0.5, LogUniform(0.1, 2.0))  # weight of the exemplars' labels
    memory: MemoryConfig = field(default_factory=lambda: MemoryConfig(capacity=200, policy=Policy.RESERVOIR))

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.alpha >= 0, "strategy.alpha", ">= 0", self.alpha)
        require(self.beta >= 0, "strategy.beta", ">= 0", self.beta)
        self.memory.require_some("for der_pp")


def logit_distance(logits: Tensor, stored: Tensor, outputs: Tensor) -> Tensor:
    """Mean over examples i of ``sum over j < outputs_i of (logits_ij - stored_ij)^2 / outputs_i``, ().

    Args:
        logits: (N, C) float, the learner's.
        stored: (N, K) float, constant, K <= C.
        outputs: (N,) int64 in 1 .. K, columns of each row of ``stored`` that mean something.
    """
    columns = torch.arange(stored.shape[1], device=outputs.device)
    gaps = (logits[:, : stored.shape[1]] - stored).masked_fill(columns >= outputs[:, None], 0.0)
    return (gaps.square().sum(1) / outputs).mean()


def positions(sought: Tensor, rows: Tensor) -> Tensor:
    """Where in ``rows`` (N,) int64 each of ``sought`` (M,) int64 stands; all of them must be there."""
    order = torch.argsort(rows, stable=True)
    return order[torch.searchsorted(rows, sought, sorter=order)]


@strategies.register(DERppConfig)
class DERpp(FineTuneClassifier):
    """The loop with two draws of exemplars in each batch.

    Auxiliary tensors, in the order of ``memory.rows``: ``logits`` (M, K) as they were stored, 0 in columns that did not
    exist then, and ``outputs`` (M,), the number of columns that did.
    """

    config: DERppConfig

    def __init__(self, config: DERppConfig, problem: Problem) -> None:
        super().__init__(config, problem)
        self.places: deque[Tensor] = deque()  # (2, M) int64 each: in the memory, of the two draws in batches to come

    def exemplars(self, draws: torch.Generator) -> Tensor:
        """Two independent draws, one after the other."""
        shuffles = [torch.randperm(len(self.memory), generator=draws) for _ in range(2)]
        places = torch.stack(shuffles)[:, : self.config.memory.batch_size]
        self.places.append(places.to(self.problem.device))
        return self.memory.rows[places.flatten()]

    def loss(self, batch: Batch) -> Tensor:
        """The three terms; the batch ends with the two draws of `exemplars`."""
        logits = self.model.all_logits(batch)
        if not self.places:
            return self.model.cross_entropy(logits, batch)
        chosen = self.places.popleft()[0]
        size = len(chosen)
        new = len(logits) - 2 * size
        stored, outputs = self.auxiliary["logits"][chosen], self.auxiliary["outputs"][chosen]
        return (
            self._cross_entropy(logits, batch, slice(0, new))
            + self.config.alpha * logit_distance(logits[new : new + size], stored, outputs)
            + self.config.beta * self._cross_entropy(logits, batch, slice(new + size, None))
        )

    def _cross_entropy(self, logits: Tensor, batch: Batch, part: slice) -> Tensor:
        return self.model.cross_entropy(logits[part], {name: column[part] for name, column in batch.items()})

    def learn(self, experience: Experience) -> None:
        """Learn one experience, then store the logits of the exemplars that it left."""
        before = self.memory.rows.cpu()
        super().learn(experience)
        self._store(before, experience)

    def _store(self, before: Tensor, experience: Experience) -> None:
        rows = self.memory.rows.cpu()
        arrived = rows[~torch.isin(rows, before)]
        seen = experience.classes[-1] + 1  # labels count classes in order of arrival
        fresh = self._logits(Table(experience.train.source, arrived), seen)
        old = self.auxiliary.get("logits", fresh[:0])
        logits = torch.cat((F.pad(old, (0, seen - old.shape[1])), fresh))
        counts = torch.full((len(fresh),), seen, device=fresh.device)
        outputs = torch.cat((self.auxiliary.get("outputs", counts[:0]), counts))
        kept = positions(rows, torch.cat((before, arrived))).to(fresh.device)
        self.auxiliary = {"logits": logits[kept], "outputs": outputs[kept]}

    @torch.no_grad()
    def _logits(self, table: Table, outputs: int) -> Tensor:
        self.model.eval()
        empty = torch.empty(0, outputs, device=self.problem.device)  # where no new row was kept
        batches = (self.problem.transform.evaluate(b) for b in table.batches(EVALUATION_BATCH))
        return torch.cat((empty, *(self.model.all_logits(batch)[:, :outputs] for batch in batches)))
