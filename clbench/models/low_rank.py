"""The matrices of low-rank adapters: W + scale B A, one pair of factors per adapted module."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from clbench.models.model import Model
from clbench.models.routed import RoutedModel


def adapters(model: Model) -> dict[str, Any]:
    """Peft's adapted modules by name, in the model's order; none where the model has no adapters."""
    if not isinstance(model, RoutedModel):
        return {}
    from peft.tuners.lora import LoraLayer

    return {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}


def foldable(model: Model) -> bool:
    """Whether every adapted module is a matrix; embeddings keep their adapters in another form."""
    return all("set0" in layer.lora_A for layer in adapters(model).values())


def down(layer: Any) -> nn.Parameter:
    """A (rank, inputs) of a module's first set of adapters."""
    weight: nn.Parameter = layer.lora_A["set0"].weight
    return weight


def base(layer: Any) -> nn.Parameter:
    """W of a module as the network keeps it: (outputs, inputs), or turned, as GPT-2 does."""
    weight: nn.Parameter = layer.get_base_layer().weight
    return weight


@torch.no_grad()
def fold(layer: Any) -> None:
    """Add scale B A to W, and begin the adapter anew: A at random from torch's global state, B at 0."""
    change: Tensor = layer.get_delta_weight("set0")
    base(layer).add_(change.to(base(layer).dtype))
    layer.reset_lora_parameters("set0", init_lora_weights=True)
