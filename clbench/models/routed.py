"""A frozen language model with low-rank adapters, one set for all tasks or one for each group of like instructions.

With routing, what is learnt goes to the set of the group whose instructions are like enough (`clbench.texts.grouping`),
else to a new set; each question goes to the set of its instruction's group. An instruction that is like none is
answered by the model without adapters, or, as CoIN's released code does, by the newest set.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from clbench.models.causal import CausalModel
from clbench.models.config import AdapterConfig, Routing
from clbench.table import Batch, Table
from clbench.texts.grouping import Codebooks


class RoutedModel(CausalModel):
    """A causal language model whose adapters learn.

    Args:
        network: of peft, with one set of adapters called ``set0``.
        pad: token that fills rows.
        eos: token that ends an answer.
        new_tokens: most that an answer may have.
        config: of the adapters.
        instructions: texts by the batches' column ``instruction``.
    """

    def __init__(
        self, network: Any, pad: int, eos: int, new_tokens: int, config: AdapterConfig, instructions: Sequence[str]
    ) -> None:
        super().__init__(network, pad, eos, new_tokens)
        self.config, self.instructions = config, tuple(instructions)
        self.codebooks = Codebooks()
        self.active = 0

    @property
    def routed(self) -> bool:
        """Whether instructions decide."""
        return self.config.routing is not Routing.NONE

    def meet(self, table: Table) -> None:
        """Choose the set that is to learn, or make a new one."""
        if not self.routed:
            return
        shown = [self.instructions[i] for i in table.column("instruction").unique().tolist()]
        group, new = self.codebooks.assign(shown, self.config.threshold)
        if new and group:
            self._add(group)
        self._switch(group)

    def predict(self, batch: Batch) -> Tensor:
        """The likeliest tokens one by one, each row from its own set, (N, A) int64."""
        if not self.routed:
            return super().predict(batch)
        parts = self._each_set(batch, super().predict)
        width = max((part.shape[1] for _, part in parts), default=0)
        made = torch.full((len(batch["tokens"]), width), self.pad, device=batch["tokens"].device)
        for rows, part in parts:
            made[rows] = F.pad(part, (0, width - part.shape[1]), value=self.pad)
        return made

    def log_likelihoods(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Log-likelihood (N,) of each row's answer under its own set, in nats, and its number of tokens (N,)."""
        if not self.routed:
            return super().log_likelihoods(batch)
        ask = super().log_likelihoods
        parts = self._each_set(batch, lambda rows: torch.stack([part.double() for part in ask(rows)]))
        made = torch.zeros(2, len(batch["tokens"]), dtype=torch.float64, device=batch["tokens"].device)
        for rows, part in parts:
            made[:, rows] = part
        return made[0].float(), made[1].long()

    def set_of(self, instruction: str) -> int | None:
        """The set that answers; None for the model without adapters."""
        if not self.codebooks.groups:
            return None
        if self.config.routing is Routing.RELEASED:
            return self.codebooks.released(instruction, self.config.threshold)
        return self.codebooks.nearest(instruction)

    def learnt_state(self) -> dict[str, Any]:
        """The adapters, and which instructions they belong to."""
        weights = {name: tensor for name, tensor in self.state_dict().items() if "lora_" in name}
        return {"adapters": weights, "codebooks": self.codebooks.state(), "active": self.active}

    def restore_learnt(self, state: dict[str, Any]) -> None:
        """Become the model whose `learnt_state` this is."""
        self.codebooks.restore(state["codebooks"])
        for group in range(1, len(self.codebooks.groups)):
            self._add(group)
        self.load_state_dict(self.state_dict() | state["adapters"])
        self._switch(state["active"])

    def _each_set(self, batch: Batch, ask: Callable[[Batch], Tensor]) -> list[tuple[Tensor, Tensor]]:
        wanted = [self.set_of(self.instructions[i]) for i in batch["instruction"].tolist()]
        parts = []
        for group in sorted(set(wanted), key=lambda g: -1 if g is None else g):
            rows = torch.tensor([i for i, g in enumerate(wanted) if g == group], device=batch["tokens"].device)
            with self._only(group):
                parts.append((rows, ask({name: column[rows] for name, column in batch.items()})))
        self._switch(self.active)
        return parts

    def _only(self, group: int | None) -> AbstractContextManager[Any]:
        if group is None:
            without: AbstractContextManager[Any] = self.network.disable_adapter()
            return without
        self.network.set_adapter(_name(group))
        return nullcontext()

    def _add(self, group: int) -> None:
        if _name(group) not in self.network.peft_config:
            with without_peft_warnings():
                self.network.add_adapter(_name(group), self.network.peft_config[_name(0)])

    def _switch(self, group: int) -> None:
        self.active = group
        if self.routed:
            self.network.set_adapter(_name(group))


def _name(group: int) -> str:
    return f"set{group}"


@contextmanager
def without_peft_warnings() -> Iterator[None]:
    """Leave out what is nobody's mistake: what transformers will rename, and that GPT-2 stores its matrices turned."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.filterwarnings("ignore", "fan_in_fan_out")
        yield
