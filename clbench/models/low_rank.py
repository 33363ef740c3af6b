"""The matrices of low-rank adapters: W + scale B A, one pair of factors per adapted module.

AdaLoRA's are W + scale P diag(E) Q, where a direction whose entry of E is 0 does not count.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from clbench.models.model import Model
from clbench.models.routed import RoutedModel, without_peft_warnings


def adapters(model: Model) -> dict[str, Any]:
    """Peft's adapted modules by name, in the model's order; none where the model has no adapters."""
    if not isinstance(model, RoutedModel):
        return {}
    from peft.tuners.lora import LoraLayer

    return {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}


def no_adapters(model: Model) -> str | None:
    """Why there is nothing low-rank to train, in one clause; None where there are adapters."""
    return None if adapters(model) else "it needs low-rank adapters; add model.adapter.rank=8"


def no_single_set(model: Model) -> str | None:
    """Why a model has not one set of adapters, all of matrices, in one clause; None where it has."""
    if isinstance(model, RoutedModel) and model.routed:
        return "it has one set of adapters at a time; leave model.adapter.routing out"
    if not all("set0" in layer.lora_A for layer in adapters(model).values()):  # embeddings keep theirs in another form
        return "it works on matrices only; leave embeddings out of model.adapter.targets"
    return no_adapters(model)


def no_bare_matrices(model: Model) -> str | None:
    """Why a model's own matrices cannot be changed where they are, in one clause; None where they can."""
    return "it changes matrices where they are; leave model.adapter out" if adapters(model) else None


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


def with_ranks(model: RoutedModel, rank: int) -> None:
    """Put AdaLoRA's adapters of so many directions each in the place of a model's own, which are taken out."""
    from peft import AdaLoraConfig, get_peft_model

    own = model.network.peft_config["set0"]
    wanted = AdaLoraConfig(
        init_r=rank,
        target_r=own.r,
        lora_alpha=own.lora_alpha,
        lora_dropout=own.lora_dropout,
        target_modules=own.target_modules,
        total_step=2,
        bias="none",
        task_type="CAUSAL_LM",
    )
    with without_peft_warnings():
        model.network = get_peft_model(model.network.unload(), wanted, adapter_name="set0")


def share_out(model: RoutedModel, steps: int, warmup: int, final: int) -> None:
    """Begin a course of AdaLoRA's ranks: so many steps, of which these are before and after the ranks fall."""
    config = model.network.peft_config["set0"]
    config.total_step, config.tinit, config.tfinal = steps, warmup, final
    model.network.base_model.rankallocator.reset_ipt()


def allocate(model: RoutedModel, step: int) -> None:
    """Set E to 0 where AdaLoRA leaves directions out after a step, counted from 1; gradients must be there."""
    model.network.base_model.update_and_allocate(step)


def directions(model: RoutedModel) -> list[tuple[nn.Parameter, nn.Parameter]]:
    """P (outputs, rank) and Q (rank, inputs) of each of AdaLoRA's adapters."""
    return [(layer.lora_B["set0"], layer.lora_A["set0"]) for layer in adapters(model).values()]


def ranks(model: RoutedModel) -> dict[str, int]:
    """How many directions of AdaLoRA's adapters count, by module."""
    return {name: int(layer.lora_E["set0"].count_nonzero()) for name, layer in adapters(model).items()}
