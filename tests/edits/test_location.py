from __future__ import annotations

from typing import Any

import pytest

from clbench.edits.location import Module, location_of, named, parameters_at
from clbench.edits.sites import sites_of
from clbench.errors import IncompatibleError
from clbench.models.config import EMBEDDED_CAUSAL, EMBEDDED_WORLD, ModelConfig
from clbench.models.language import build_causal
from tests.language import deep_network

LLAMA = "model.layers"
ATTENTION = ["self_attn.k_proj.weight", "self_attn.o_proj.weight", "self_attn.q_proj.weight", "self_attn.v_proj.weight"]
BIASES = ["self_attn.k_proj.bias", "self_attn.q_proj.bias", "self_attn.v_proj.bias"]
MLP = ["mlp.down_proj.weight", "mlp.gate_proj.weight", "mlp.up_proj.weight"]
NORMS = ["input_layernorm.weight", "post_attention_layernorm.weight"]


def tensors(network: Any, layer: int | None = None, depth: float | None = None, module: Module | None = None) -> Any:
    return sorted(parameters_at(network, location_of(network, layer, depth, module)))


@pytest.mark.parametrize(
    ("kind", "blocks", "wanted"),
    [
        ("llama", 32, [f"{LLAMA}.22.mlp.down_proj.weight"]),
        ("mistral", 32, sorted(f"{LLAMA}.23.{name}" for name in (*ATTENTION, *MLP, *NORMS))),
        ("qwen2", 28, [f"{LLAMA}.6.mlp.down_proj.weight"]),
        ("qwen2", 48, [f"{LLAMA}.11.mlp.down_proj.weight"]),
        ("qwen2", 64, [f"{LLAMA}.15.mlp.down_proj.weight"]),
        ("qwen2", 80, [f"{LLAMA}.19.mlp.down_proj.weight"]),
        ("gpt2", 12, ["transformer.h.8.mlp.c_proj.weight"]),  # its bias stays
    ],
)
def test_the_published_tensors_are_chosen_by_themselves(kind: str, blocks: int, wanted: list[str]) -> None:
    assert tensors(deep_network(kind, blocks)) == wanted


def test_the_embedded_model_has_a_place_of_its_own_and_no_other_of_its_depth_has_it() -> None:
    embedded = build_causal(ModelConfig(EMBEDDED_WORLD), 4).inner
    assert tensors(embedded) == [f"{LLAMA}.3.{name}" for name in MLP]
    assert [site.name for site in sites_of(embedded, None)] == [f"{LLAMA}.0.mlp.down_proj"]
    for other in (deep_network("llama", 4), build_causal(ModelConfig(EMBEDDED_CAUSAL), 4).inner):
        assert tensors(other) == [f"{LLAMA}.2.mlp.down_proj.weight"]


@pytest.mark.parametrize(
    ("module", "within"),
    [
        (Module.DOWN, ["mlp.down_proj.weight"]),
        (Module.UP, ["mlp.up_proj.weight"]),
        (Module.MLP, MLP),
        (Module.ATTENTION, sorted([*ATTENTION, *BIASES])),
        (Module.LAYER, sorted([*ATTENTION, *BIASES, *MLP, *NORMS])),
    ],
)
def test_block_two_is_not_block_twenty(module: Module, within: list[str]) -> None:
    network = deep_network("qwen2", 28)
    assert tensors(network, layer=2, module=module) == [f"{LLAMA}.2.{name}" for name in within]


def test_all_is_every_parameter() -> None:
    network = deep_network("gpt2", 2)
    assert tensors(network, module=Module.ALL) == sorted(name for name, _ in network.named_parameters())


@pytest.mark.parametrize(
    ("module", "names"),
    [
        (Module.DOWN, ["mlp.c_proj.weight"]),
        (Module.UP, ["mlp.c_fc.weight"]),
        (Module.MLP, ["mlp.c_fc.bias", "mlp.c_fc.weight", "mlp.c_proj.bias", "mlp.c_proj.weight"]),
        (Module.ATTENTION, ["attn.c_attn.bias", "attn.c_attn.weight", "attn.c_proj.bias", "attn.c_proj.weight"]),
    ],
)
def test_gpt2_s_parts_are_known(module: Module, names: list[str]) -> None:
    assert tensors(deep_network("gpt2", 12), layer=1, module=module) == [f"transformer.h.1.{name}" for name in names]


@pytest.mark.parametrize(
    ("blocks", "depth", "layer"), [(80, 7 / 28, 19), (32, 23 / 32, 22), (32, 1.0, 31), (32, 0.01, 0), (2, 0.5, 0)]
)
def test_a_depth_is_the_share_of_blocks_up_to_the_chosen_one(blocks: int, depth: float, layer: int) -> None:
    network = deep_network("llama", blocks)
    assert location_of(network, None, depth, Module.DOWN) == f"{LLAMA}.{layer}.mlp.down_proj.weight"


def test_of_an_unknown_model_the_feed_forward_layer_of_a_late_block_is_taken() -> None:
    assert tensors(deep_network("llama", 16)) == [f"{LLAMA}.11.mlp.down_proj.weight"]


@pytest.mark.parametrize("layer", [-1, 32])
def test_a_block_that_is_not_there_gets_one_line(layer: int) -> None:
    with pytest.raises(IncompatibleError, match=rf"strategy.layer={layer}: the model has blocks 0 to 31$"):
        location_of(deep_network("llama", 32), layer, None, None)


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("model.layers.9.mlp", r"no parameters under 'model.layers.9.mlp'; under 'model.layers' there are 0, 1, 2, 3$"),
        ("model.layers.1.mlp.down", r"under 'model.layers.1.mlp' there are down_proj, gate_proj, up_proj$"),
        ("layers", r"no parameters under 'layers'; it has lm_head, model$"),
        ("model.layers.1.mlp.down_proj.weigh", r"under 'model.layers.1.mlp.down_proj' there are weight$"),
    ],
)
def test_a_location_that_is_not_there_gets_one_line_with_what_is(location: str, message: str) -> None:
    with pytest.raises(IncompatibleError, match=message):
        named(deep_network("llama", 4), location)


def test_a_named_location_ends_where_a_name_s_part_ends() -> None:
    network = deep_network("llama", 32)
    found = named(network, f"{LLAMA}.2")
    assert sorted(found) == sorted(f"{LLAMA}.2.{name}" for name in (*ATTENTION, *MLP, *NORMS))
    assert list(named(network, f"{LLAMA}.3.mlp.up_proj.weight")) == [f"{LLAMA}.3.mlp.up_proj.weight"]


def test_a_block_without_the_part_gets_one_line_with_what_it_has() -> None:
    network = deep_network("llama", 4)
    del network.model.layers[1].mlp
    with pytest.raises(
        IncompatibleError, match=r"strategy.module=mlp: block 1 has no mlp; it has input_layernorm.weight, .*; name one"
    ):
        location_of(network, 1, None, Module.MLP)
