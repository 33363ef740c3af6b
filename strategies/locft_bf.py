"""LocFT-BF: localised fine-tuning, breadth first: epochs over all edits on one module of one block.

Yang et al. 2025, arXiv 2509.22072 v4 (ICLR 2026). Targets end in EOS, prompts are raw, and the loss of an edit is the
mean over its target's tokens; Adam at a constant rate, batches shuffled anew each epoch, a batch whose loss is below
0.01 is left out, and training ends with the first epoch whose mean is. The paper states neither rate nor batch size;
its released settings are ``strategy.lr=5e-4 strategy.batch_size=100 strategy.epochs=25`` (5e-5 for Mistral-7B's whole
block 23). Locations (`clbench.edits.location`): the published ones for Llama-3-8B, Mistral-7B, Qwen2.5 and Qwen1.5-MoE;
for other models ``protocol=two_phase`` searches module and depth on the tuning half, as section 3 of the paper does by
hand, on edits that are not reported.

The paper hands all edits over at once (``scenario.per_experience=null``, access ``offline``). Where they come a few at
a time it leaves open what the learner may see again, and that decides the result, so ``access`` says it.

What differs from the released code: the order of batches comes from the seed; a last batch of a single edit joins the
one before it; rows are padded on the right and masked by their lengths; tuned weights are float32 whatever the model's
type. ``pipeline=depth_first`` is the paper's counterpart (table 1): one edit after the other. ``augment`` adds training
rows with text before the prompt, as LocFT-BF-Aug (appendix A.4) does: there five continuations of fixed words, here so
many texts of at most 10 tokens that the model itself draws from its beginning.

Certificate: no published number is reproduced yet; what the specification's own small study found is confirmed or
refuted in ``results/measured/edits``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from clbench import seeding
from clbench.edits.located import Located, LocatedConfig, edits_so_far
from clbench.errors import ConfigError
from clbench.memory import MemoryConfig, Policy
from clbench.scenario import Experience
from clbench.space import require
from clbench.strategy import Problem, strategies
from clbench.table import Source, Table

PREFIX = 10  # tokens before an augmented prompt, at most


class Access(Enum):
    """What of past experiences is seen again while one is learnt."""

    NO_REPLAY = "no_replay"  # nothing
    REPLAY = "replay"  # memory.capacity edits, drawn from all
    CUMULATIVE_CONTINUE = "cumulative_continue"  # all edits so far, from the weights as they are
    CUMULATIVE_FROM_BASE = "cumulative_from_base"  # all edits so far, from the unedited weights


@dataclass
class LocFTBFConfig(LocatedConfig):
    """The fields of tuning at a location, what of the past is seen, and augmentation."""

    access: Access = Access.NO_REPLAY  # what of past experiences is seen again
    augment: int = 0  # rows more per edit, with a few tokens of the model's own before the prompt
    memory: MemoryConfig = field(default_factory=lambda: MemoryConfig(policy=Policy.RESERVOIR))

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.augment >= 0, "strategy.augment", ">= 0", self.augment)
        if (self.access is Access.REPLAY) is (self.memory.capacity == 0):
            raise ConfigError(
                "strategy.access=replay goes with strategy.memory.capacity >= 1; give both or neither, got access="
                f"{self.access.value} and capacity={self.memory.capacity}"
            )


@strategies.register(LocFTBFConfig)
class LocFTBF(Located):
    """Epochs over the edits it may see, at one location."""

    config: LocFTBFConfig

    def __init__(self, config: LocFTBFConfig, problem: Problem) -> None:
        super().__init__(config, problem)
        self.seen = torch.empty(0, dtype=torch.int64)
        self._row_bytes = 0
        from_base = config.access is Access.CUMULATIVE_FROM_BASE
        self.base = {name: p.detach().clone() for name, p in self.tuned.items()} if from_base else {}

    @classmethod
    def access(cls, config: LocFTBFConfig) -> str:
        """As its field says."""
        many = f" {config.memory.capacity}" if config.access is Access.REPLAY else ""
        return config.access.value.replace("_", " ") + many

    @property
    def cumulative(self) -> bool:
        """Whether all past edits are seen again."""
        return self.config.access in (Access.CUMULATIVE_CONTINUE, Access.CUMULATIVE_FROM_BASE)

    def begin(self, experience: Experience) -> None:
        """Go back to the unedited weights, where each experience begins from them."""
        self.put({name: value.to(self.problem.device) for name, value in self.base.items()})

    def training_table(self, experience: Experience) -> Table:
        """The new edits and those of the past that may be seen, with their augmented rows."""
        self._row_bytes = experience.train.source.row_bytes
        past = self.memory.rows if self.config.access is Access.REPLAY else self.seen
        table = edits_so_far(experience.train, past)
        return self._augmented(table, experience.index) if self.config.augment else table

    def exemplars(self, draws: torch.Generator) -> Tensor:
        """None beside the batch: past edits are in it."""
        return torch.empty(0, dtype=torch.int64)

    def end(self, experience: Experience) -> None:
        """Keep the edits, where they will be seen again."""
        if self.cumulative:
            self.seen = torch.cat((self.seen, experience.train.rows.cpu()))

    def _augmented(self, table: Table, index: int) -> Table:
        columns = {name: table.column(name) for name in ("tokens", "prompt", "length")}
        starts = columns["tokens"][:1, :1].long()
        parts = [columns]
        for turn in range(self.config.augment):
            with seeding.isolated(self.problem.seed, "augment", index, turn):
                drawn = self.causal.drawn(starts.expand(len(table), 1), PREFIX)
            parts.append(preceded(columns, drawn, self.causal.pad))
        width = max(part["tokens"].shape[1] for part in parts)
        for part in parts:
            part["tokens"] = F.pad(part["tokens"], (0, width - part["tokens"].shape[1]), value=self.causal.pad)
        return Table(Source({name: torch.cat([part[name] for part in parts]) for name in columns}, self.problem.device))

    def stored_bytes(self) -> int:
        """Bytes of the edits that are kept, and of the unedited weights."""
        kept = len(self.seen) * self._row_bytes
        return super().stored_bytes() + kept + sum(t.numel() * t.element_size() for t in self.base.values())

    def state(self) -> dict[str, Any]:
        """The tuned weights, and which edits are kept."""
        return {**super().state(), "seen": self.seen, "row_bytes": self._row_bytes}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on as the strategy whose `state` this is would."""
        super().restore(state)
        self.seen, self._row_bytes = state["seen"].cpu(), state["row_bytes"]


def preceded(columns: dict[str, Tensor], drawn: Tensor, pad: int) -> dict[str, Tensor]:
    """Rows with tokens put between their first token and the rest.

    Args:
        columns: ``tokens`` (N, L), ``prompt`` and ``length`` (N,).
        drawn: (N, P) tokens, filled with ``pad`` where a row's end earlier.
        pad: fills rows.
    """
    tokens, sizes = columns["tokens"], (drawn != pad).sum(1).to(columns["prompt"].dtype)
    made = torch.full((len(tokens), tokens.shape[1] + drawn.shape[1]), pad, dtype=tokens.dtype, device=tokens.device)
    made[:, 0] = tokens[:, 0]
    for row, size in enumerate(sizes.tolist()):
        made[row, 1 : 1 + size] = drawn[row, :size].to(tokens.dtype)
        made[row, 1 + size : size + tokens.shape[1]] = tokens[row, 1:]
    return {"tokens": made, "prompt": columns["prompt"] + sizes, "length": columns["length"] + sizes}
