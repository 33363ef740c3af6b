from __future__ import annotations

from typing import Any

import pytest
import torch

from clbench.models.causal import CausalModel
from clbench.models.config import AdapterConfig
from clbench.models.language import adapted
from clbench.models.low_rank import adapters, base, down, fold, no_single_set
from clbench.models.routed import RoutedModel
from clbench.seeding import isolated
from clbench.texts.tokens import columns
from tests.language import BOS, EOS, PAD, network

BATCH = {name: column.long() for name, column in columns([[BOS, 5, 6], [BOS, 7]], [[8, EOS], [9, 9, EOS]], PAD).items()}


def model(kind: str = "llama", dtype: torch.dtype = torch.float32, **values: Any) -> RoutedModel:
    """A model whose adapters have learnt something."""
    config = AdapterConfig(rank=3, **values)
    with isolated(0, "initialise"):
        made = RoutedModel(adapted(network(kind).to(dtype), config), PAD, EOS, 4, config, ()).eval()
        with torch.no_grad():
            for parameter in made.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.1 * torch.randn_like(parameter))
    return made


def plain_weights(made: RoutedModel) -> dict[str, torch.Tensor]:
    found = made.inner.state_dict().items()
    return {name.replace(".base_layer", ""): t.clone() for name, t in found if "lora_" not in name}


@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen2"])
def test_folding_leaves_what_is_said_and_changes_the_weights_by_scale_b_a(kind: str) -> None:
    made = model(kind, alpha=1.5)
    weights, before = plain_weights(made), made.all_logits(BATCH).detach()
    factors = {
        name.partition("base_model.model.")[2]: (layer.lora_A["set0"].weight, layer.lora_B["set0"].weight)
        for name, layer in adapters(made).items()
    }
    factors = {name: (a.detach().double().clone(), b.detach().double().clone()) for name, (a, b) in factors.items()}
    for layer in adapters(made).values():
        fold(layer)
    torch.testing.assert_close(made.all_logits(BATCH), before, atol=1e-4, rtol=1e-5)
    with made.network.disable_adapter():  # it is the weights that say so now
        torch.testing.assert_close(made.all_logits(BATCH), before, atol=1e-4, rtol=1e-5)
    for name, weight in plain_weights(made).items():
        wanted = weights[name].double()
        if name.removesuffix(".weight") in factors and name.endswith(".weight"):
            a, b = factors[name.removesuffix(".weight")]
            wanted = wanted + 0.5 * ((b @ a).T if kind == "gpt2" else b @ a)
            assert not torch.equal(weight, weights[name])
        torch.testing.assert_close(weight.double(), wanted, atol=1e-6, rtol=1e-5)


def test_a_folded_adapter_begins_anew() -> None:
    made = model()
    layer = next(iter(adapters(made).values()))
    old = down(layer).clone()
    with isolated(1, "fold"):
        fold(layer)
    assert not layer.lora_B["set0"].weight.any()
    assert down(layer).shape == old.shape == (3, 32)
    assert not torch.allclose(down(layer), old)
    assert down(layer).requires_grad
    assert not base(layer).requires_grad
    with isolated(1, "fold"):
        fold(layer)  # nothing was learnt in between
    assert base(layer).shape == (32, 32)


def test_folding_into_bfloat16_is_within_its_rounding() -> None:
    made = model(dtype=torch.bfloat16)
    before = made.all_logits(BATCH).detach()
    for layer in adapters(made).values():
        fold(layer)
    assert {base(layer).dtype for layer in adapters(made).values()} == {torch.bfloat16}
    assert (made.all_logits(BATCH) - before).abs().max() < 0.05 * before.abs().max()


def test_a_model_without_adapters_has_none_and_embeddings_cannot_be_folded() -> None:
    assert adapters(CausalModel(network(), PAD, EOS, 4)) == {}
    assert no_single_set(model()) is None
    assert "matrices only" in str(no_single_set(model(targets=["embed_tokens", "q_proj"])))
