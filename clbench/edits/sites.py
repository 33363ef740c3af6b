"""Where closed-form editors write: the last matrices of feed-forward layers, and what flows through them.

A feed-forward layer is read as an associative memory (Geva et al. 2020, arXiv 2012.14913): its last matrix maps a key,
the hidden activation (F,), to a value (D,) that is added to the residual stream.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from clbench.edits.location import Module, blocks_of, location_of
from clbench.errors import IncompatibleError
from clbench.models.causal import CausalModel
from clbench.table import Batch

KNOWN = {
    ("llama", 32): range(4, 9),
    ("mistral", 32): range(4, 9),
    ("gptj", 28): range(3, 9),
    ("gpt2", 48): range(13, 18),
    ("qwen2", 28): range(4, 9),
}
"""Blocks by architecture and number of blocks: those of the released settings of MEMIT (arXiv 2210.07229) and AlphaEdit
(arXiv 2410.02355)."""

FIRST, LAST = 1 / 8, 9 / 32
"""Of other models, the blocks from and before these shares of the depth: those of a Llama of 32 blocks. Of the embedded
model it is block 0."""


@dataclass(frozen=True)
class Site:
    """One matrix.

    Attributes:
        name: of its module, in the network.
        module: linear, or GPT-2's Conv1D, whose weight is the transposed matrix.
        block: that it is in.
    """

    name: str
    module: nn.Module
    block: nn.Module

    @property
    def weight(self) -> Tensor:
        """As the module holds it, (D, F) or (F, D)."""
        return self.module.get_parameter("weight")

    @property
    def transposed(self) -> bool:
        """Whether the module holds (F, D)."""
        return type(self.module).__name__ == "Conv1D"

    @torch.no_grad()
    def add(self, change: Tensor) -> None:
        """Add (D, F) to the matrix."""
        self.weight.add_((change.T if self.transposed else change).to(self.weight.dtype))


def sites_of(network: Any, layers: Sequence[int] | None) -> tuple[Site, ...]:
    """The last matrices of some blocks' feed-forward layers, in the order of the blocks.

    Args:
        network: of transformers, not wrapped.
        layers: numbers of the blocks, from 0; None: the known ones.

    Raises:
        IncompatibleError: the network has no such block, or what stands there is no single dense layer.
    """
    count = network.config.num_hidden_layers
    known = KNOWN.get((network.config.model_type, count)) or range(int(count * FIRST), max(1, round(count * LAST)))
    found = []
    for layer in sorted(known if layers is None else layers):
        if not 0 <= layer < count:
            raise IncompatibleError(f"strategy.layers names block {layer}: the model has blocks 0 to {count - 1}")
        name = location_of(network, layer, None, Module.DOWN).removesuffix(".weight")
        if "expert" in name:
            raise IncompatibleError(f"{name} is one expert of several, whose output is scaled; use strategy=locft_bf")
        block = network.get_submodule(f"{blocks_of(network)}.{layer}")
        found.append(Site(name, network.get_submodule(name), block))
    return tuple(found)


@contextlib.contextmanager
def watched(modules: Mapping[str, nn.Module]) -> Iterator[dict[str, tuple[Tensor, Tensor]]]:
    """What goes into modules and comes out of them, by name, while a network runs; the last time counts."""
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    with contextlib.ExitStack() as stack:
        for name, module in modules.items():

            def keep(_: nn.Module, inputs: Any, made: Any, name: str = name) -> None:
                seen[name] = (inputs[0], states_of(made))

            stack.callback(module.register_forward_hook(keep).remove)
        yield seen


def states_of(made: Any) -> Tensor:
    """The hidden states (N, L, D) of what a block returns: alone or first of several, as the version has it."""
    states: Tensor = made[0] if isinstance(made, tuple) else made
    return states


@torch.no_grad()
def keys_and_state(model: CausalModel, sites: Sequence[Site], batch: Batch) -> tuple[list[Tensor], Tensor]:
    """What stands at the subjects' last tokens.

    Args:
        model: in evaluation mode.
        sites: some.
        batch: columns of `clbench.texts.tokens`, tokens int64, and ``subject`` (N,) int64.

    Returns:
        Keys (F, N) float64 of each site, and the state (D, N) float64 behind the last site's block.
    """
    rows = torch.arange(len(batch["subject"]), device=batch["subject"].device)
    modules = {site.name: site.module for site in sites}
    with watched({**modules, "": sites[-1].block}) as seen:
        model.backbone(input_ids=batch["tokens"], use_cache=False)
    keys = [seen[name][0][rows, batch["subject"]].T.double() for name in modules]
    return keys, seen[""][1][rows, batch["subject"]].T.double()
