"""Where in a causal language model an edit is made: one module of one block, by its parameters' names.

The names of Llama, Qwen2, Mistral and their like, of Qwen2-MoE (the shared expert), of GPT-2 and of GPT-J are known. A
location is a prefix of parameter names that ends where a name's part ends, so that block 2 is not block 20 as well.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

from torch import nn

from clbench.errors import IncompatibleError


class Module(Enum):
    """Which part of a block, or more than that."""

    DOWN = "down"  # the feed-forward layer's last matrix
    UP = "up"  # its first matrix; not its gate
    MLP = "mlp"  # the whole feed-forward layer
    ATTENTION = "attention"  # the whole attention layer
    LAYER = "layer"  # the whole block, norms too
    ALL = "all"  # every parameter of the model


PARTS = {
    Module.DOWN: (
        *("mlp.down_proj.weight", "mlp.shared_expert.down_proj.weight", "mlp.c_proj.weight"),
        "mlp.fc_out.weight",
    ),
    Module.UP: ("mlp.up_proj.weight", "mlp.shared_expert.up_proj.weight", "mlp.c_fc.weight", "mlp.fc_in.weight"),
    Module.MLP: ("mlp",),
    Module.ATTENTION: ("self_attn", "attn"),
    Module.LAYER: ("",),
}
"""Names within a block, the first that is there."""

KNOWN = {
    ("llama", 32): (22, Module.DOWN),
    ("mistral", 32): (23, Module.LAYER),
    ("qwen2", 28): (6, Module.DOWN),
    ("qwen2", 48): (11, Module.DOWN),
    ("qwen2", 64): (15, Module.DOWN),
    ("qwen2", 80): (19, Module.DOWN),
    ("qwen2_moe", 24): (20, Module.DOWN),
}
"""Published blocks and parts by architecture and number of blocks (LocFT-BF, arXiv 2509.22072, table 2, appendix A.2
and the released settings; 48 and 64 blocks by relative depth)."""

EMBEDDED = {"model_type": "llama", "num_hidden_layers": 4, "hidden_size": 96, "vocab_size": 182}
"""What the config of the embedded model of `clbench.edits.world` says, and that of no other."""

EMBEDDED_PLACE = (3, Module.MLP)
"""Its block and part, by the paper's rule (``results/measured/edits/locations.csv``)."""

DEPTH = 0.72
"""Of other models, the block at this share of the depth: Llama-3-8B's, and near Mistral's."""


def blocks_of(network: Any) -> str:
    """The name of the list of a network's blocks.

    Raises:
        IncompatibleError: there is none of as many blocks as its config says.
    """
    count = network.config.num_hidden_layers
    for name, module in network.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return str(name)
    raise IncompatibleError(f"{type(network).__name__} has no list of {count} blocks to choose one of")


def location_of(network: Any, layer: int | None, depth: float | None, module: Module | None) -> str:
    """A prefix of parameter names; empty for all parameters.

    Args:
        network: of transformers, not wrapped.
        layer: number of the block, from 0; None: by ``depth``.
        depth: (number + 1) / blocks, in (0, 1]; None: the known one, or `DEPTH`.
        module: part of the block; None: the known one, or the feed-forward layer's last matrix.

    Raises:
        IncompatibleError: the network has no such block or part; the message says what it has.
    """
    count = network.config.num_hidden_layers
    by_depth = max(0, round(count * (DEPTH if depth is None else depth)) - 1)
    known_layer, known_module = known_place(network.config) or (by_depth, Module.DOWN)
    chosen = known_module if module is None else module
    if chosen is Module.ALL:
        return ""
    number = layer if layer is not None else by_depth if depth is not None else known_layer
    if not 0 <= number < count:
        raise IncompatibleError(f"strategy.layer={number}: the model has blocks 0 to {count - 1}")
    block = f"{blocks_of(network)}.{number}"
    for part in PARTS[chosen]:
        prefix = f"{block}.{part}".rstrip(".")
        if parameters_at(network, prefix):
            return prefix
    within = sorted({name.removeprefix(f"{block}.") for name in parameters_at(network, block)})
    raise IncompatibleError(
        f"strategy.module={chosen.value}: block {number} has no {' or '.join(PARTS[chosen])}; it has "
        f"{', '.join(within)}; name one: strategy.location={block}.{within[0]}"
    )


def known_place(config: Any) -> tuple[int, Module] | None:
    """Block and part that are known to be good for a network of this config."""
    if all(getattr(config, name, None) == value for name, value in EMBEDDED.items()):
        return EMBEDDED_PLACE
    return KNOWN.get((config.model_type, config.num_hidden_layers))


def parameters_at(network: Any, location: str) -> dict[str, nn.Parameter]:
    """The parameters of a location, by their names."""
    return {
        name: parameter
        for name, parameter in network.named_parameters()
        if not location or name == location or name.startswith(f"{location}.")
    }


def named(network: Any, location: str) -> dict[str, nn.Parameter]:
    """The parameters of a location that a user names.

    Raises:
        IncompatibleError: there is nothing of that name; the message says what there is.
    """
    found = parameters_at(network, location)
    if found:
        return found
    parent = location
    while parent and not parameters_at(network, parent):
        parent = parent.rpartition(".")[0]
    there = sorted({name.removeprefix(f"{parent}.").partition(".")[0] for name in parameters_at(network, parent)})
    raise IncompatibleError(
        f"the model has no parameters under {location!r}; {f'under {parent!r}' if parent else 'it'} "
        f"{'there are' if parent else 'has'} {', '.join(there)}"
    )
