from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from clbench.edits.sites import Site, keys_and_state, sites_of
from clbench.errors import IncompatibleError
from clbench.models.causal import CausalModel
from tests.language import BOS, EOS, PAD, network


class Blocks(nn.Module):
    """As many empty blocks with a last matrix as a config says."""

    def __init__(self, kind: str, count: int, name: str = "down_proj") -> None:
        super().__init__()
        self.config = SimpleNamespace(num_hidden_layers=count, model_type=kind)
        layers = [{"mlp": nn.ModuleDict({name: nn.Linear(2, 2)})} for _ in range(count)]
        self.layers = nn.ModuleList([nn.ModuleDict(layer) for layer in layers])


@pytest.mark.parametrize(
    ("kind", "blocks", "name", "expected"),
    [
        ("llama", 32, "down_proj", [4, 5, 6, 7, 8]),
        ("gptj", 28, "fc_out", [3, 4, 5, 6, 7, 8]),
        ("gpt2", 48, "c_proj", [13, 14, 15, 16, 17]),
        ("olmo", 32, "down_proj", [4, 5, 6, 7, 8]),
        ("olmo", 16, "down_proj", [2, 3]),
        ("olmo", 2, "down_proj", [0]),
    ],
)
def test_blocks_that_are_not_named_are_the_published_ones_or_at_that_depth(
    kind: str, blocks: int, name: str, expected: list[int]
) -> None:
    found = [site.name for site in sites_of(Blocks(kind, blocks, name), None)]
    assert found == [f"layers.{number}.mlp.{name}" for number in expected]


def test_a_block_that_the_model_does_not_have_is_one_clear_line() -> None:
    with pytest.raises(IncompatibleError, match=r"strategy.layers names block 2: the model has blocks 0 to 1"):
        sites_of(network(), [0, 2])


def test_an_expert_whose_output_is_scaled_is_refused() -> None:
    made = Blocks("qwen2_moe", 2)
    for block in made.layers:
        block["mlp"] = nn.ModuleDict({"shared_expert": nn.ModuleDict({"down_proj": nn.Linear(2, 2)})})  # type: ignore[operator]
    with pytest.raises(IncompatibleError, match="one expert of several"):
        sites_of(made, [0])


def batch_of() -> dict[str, torch.Tensor]:
    rows = torch.tensor([[BOS, 5, 6, 7, 8, EOS], [BOS, 9, 4, 5, EOS, PAD]])
    return {"tokens": rows, "subject": torch.tensor([2, 3])}


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_change_maps_each_key_to_so_much_more(kind: str) -> None:
    """Both orientations: what (D, F) adds to the state behind the block is the change times the key."""
    model = CausalModel(network(kind), PAD, EOS, 4).eval()
    sites, batch = sites_of(model.inner, [1]), batch_of()
    (keys,), before = keys_and_state(model, sites, batch)
    assert keys.shape == (sites[0].weight.numel() // 32, 2)
    change = torch.randn(32, len(keys), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sites[0].add(change)
    (same,), after = keys_and_state(model, sites, batch)
    assert torch.equal(keys, same)
    torch.testing.assert_close(after - before, change @ keys, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_the_state_is_the_one_behind_the_block_at_the_subject(kind: str) -> None:
    model, batch = CausalModel(network(kind), PAD, EOS, 4).eval(), batch_of()
    states = model.network(input_ids=batch["tokens"], output_hidden_states=True).hidden_states[1]
    _, found = keys_and_state(model, sites_of(model.inner, [0]), batch)
    expected = torch.stack([states[0, 2], states[1, 3]], 1)
    torch.testing.assert_close(found.float(), expected)


def test_only_a_conv1d_holds_its_matrix_transposed() -> None:
    (gpt2,), (llama,) = sites_of(network("gpt2"), [0]), sites_of(network(), [0])
    assert isinstance(llama, Site)
    assert gpt2.weight.shape == (128, 32)
    assert llama.weight.shape == (32, 48)
    assert gpt2.transposed
    assert not llama.transposed
