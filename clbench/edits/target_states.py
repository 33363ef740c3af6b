"""Which hidden state at a subject's last token would make a model give the answer that is wanted.

ROME (Meng et al. 2022, arXiv 2202.05262, equation 4) and MEMIT (arXiv 2210.07229, equation 16) descend, over d added to
the state h behind one block at the subject's last token,

    -mean_t log p(y_t | x, y_<t; h + d)  +  kl KL(p(. | h + d) || p(. | h))  +  decay |d| / |h|^2

by Adam, from d = 0, with d pulled back to |d| <= clamp |h| after each step. The last term is the released code's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clbench.edits.editor import EditorConfig
from clbench.edits.sites import states_of, watched
from clbench.models.causal import CausalModel
from clbench.space import LogUniform, require, searched
from clbench.table import Batch
from clbench.texts.tokens import answered


@dataclass
class TargetConfig(EditorConfig):
    """How the wanted state is searched for; names as in the released code."""

    v_num_grad_steps: int = 50  # steps of Adam, at most
    v_lr: float = searched(0.5, LogUniform(0.05, 1.0))  # their rate
    v_weight_decay: float = 0.5  # weight of |d| / |h|^2
    v_stop: float = 0.05  # loss at which enough is done
    clamp_norm_factor: float = searched(0.75, LogUniform(0.5, 8.0))  # most that |d| may be, in units of |h|
    kl_factor: float = 0.0625  # weight of the divergence at the subject

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.v_num_grad_steps >= 1, "strategy.v_num_grad_steps", ">= 1", self.v_num_grad_steps)
        for name in ("v_lr", "clamp_norm_factor"):
            require(getattr(self, name) > 0, f"strategy.{name}", "> 0", getattr(self, name))
        for name in ("v_weight_decay", "v_stop", "kl_factor"):
            require(getattr(self, name) >= 0, f"strategy.{name}", ">= 0", getattr(self, name))


def target_states(model: CausalModel, block: nn.Module, batch: Batch, config: TargetConfig) -> Tensor:
    """The change d of each edit's state, (D, N) float64; edits do not influence each other.

    Args:
        model: frozen, in evaluation mode.
        block: behind which the state is changed.
        batch: columns of `clbench.texts.tokens` with answers and EOS, tokens int64, and ``subject`` (N,) int64.
        config: of the search.
    """
    search = _Search(model, block, batch)
    change = torch.zeros_like(search.start, requires_grad=True)
    optimizer = torch.optim.Adam([change], lr=config.v_lr)
    sizes = search.start.norm(dim=1)
    for _ in range(config.v_num_grad_steps):
        surprise, divergence = search.losses(change)
        losses = surprise + config.kl_factor * divergence + config.v_weight_decay * _norm(change) / sizes**2
        learning = losses.detach() >= config.v_stop
        if not learning.any():
            break
        optimizer.zero_grad()
        losses.sum().backward()
        kept = change.detach().clone()
        optimizer.step()
        with torch.no_grad():
            pulled = change * (config.clamp_norm_factor * sizes / change.norm(dim=1)).clamp_max(1.0)[:, None]
            change.copy_(torch.where(learning[:, None], pulled, kept))
    return change.detach().T.double()


def _norm(change: Tensor) -> Tensor:
    """Length of each row, (N,), with a gradient of 0 at 0."""
    return (change.square().sum(1) + torch.finfo(change.dtype).tiny).sqrt()


class _Search:
    """The model with a change added to its states at the subjects' last tokens.

    Attributes:
        start: those states without a change, (N, D) float32.
    """

    def __init__(self, model: CausalModel, block: nn.Module, batch: Batch) -> None:
        self.model, self.block, self.batch = model, block, batch
        self.rows = torch.arange(len(batch["subject"]), device=batch["subject"].device)
        with torch.no_grad(), watched({"": block}) as seen:
            logits = self._logits()
        self.start, self.before = self._at(seen[""][1]).float(), torch.log_softmax(self._at(logits).float(), 1)

    def losses(self, change: Tensor) -> tuple[Tensor, Tensor]:
        """Mean surprise (N,) over each answer's tokens, EOS included, and divergence (N,) of what follows subjects."""
        with _hooked(self.block, lambda states: self._added(states, change)):
            logits = self._logits()
        wanted = answered(self.batch)
        losses = F.cross_entropy(logits[:, :-1][wanted].float(), self.batch["tokens"][:, 1:][wanted], reduction="none")
        each = torch.zeros(wanted.shape, device=wanted.device).masked_scatter(wanted, losses)
        after = torch.log_softmax(self._at(logits).float(), 1)
        return each.sum(1) / wanted.sum(1), (after.exp() * (after - self.before)).sum(1)

    def _logits(self) -> Tensor:
        made: Tensor = self.model.network(input_ids=self.batch["tokens"], use_cache=False).logits
        return made

    def _at(self, states: Tensor) -> Tensor:
        return states[self.rows, self.batch["subject"]]

    def _added(self, states: Tensor, change: Tensor) -> Tensor:
        return states.index_put((self.rows, self.batch["subject"]), change.to(states.dtype), accumulate=True)


@contextlib.contextmanager
def _hooked(block: nn.Module, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Have a block's states changed on their way."""

    def hook(_: nn.Module, inputs: Any, made: Any) -> Any:
        states = change(states_of(made))
        return (states, *made[1:]) if isinstance(made, tuple) else states

    handle = block.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
