from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch import nn

from clbench.errors import IncompatibleError
from clbench.models.adapters import AdaptedTransformer, AdapterWeights
from clbench.models.small_cnn import SmallCNN
from clbench.models.small_vit import SmallViT
from clbench.models.transformer import no_transformer, opened

TINY: dict[str, Any] = {"num_classes": 0, "img_size": 16, "patch_size": 4, "embed_dim": 12, "depth": 3, "num_heads": 3}


def timm_vit(**values: Any) -> nn.Module:
    torch.manual_seed(0)
    network: nn.Module = timm.create_model("vit_tiny_patch16_224", **(TINY | values)).eval()
    return network


def backbones() -> list[nn.Module]:
    return [SmallViT((3, 16, 16), 12, depth=3, heads=3), timm_vit(), timm_vit(init_values=0.1, qk_norm=True)]


IMAGES = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("backbone", backbones())
def test_the_steps_make_up_the_backbone(backbone: nn.Module) -> None:
    assert torch.allclose(opened(backbone)(IMAGES), backbone(IMAGES), atol=1e-6)


@pytest.mark.parametrize("backbone", backbones())
def test_a_prefix_is_attended_to_as_keys_and_values(backbone: nn.Module) -> None:
    vit = opened(backbone)
    tokens = vit.embed(IMAGES)
    nothing = torch.zeros(4, 0, 12)
    assert torch.allclose(vit.attend(1, tokens, (nothing, nothing)), vit.attend(1, tokens), atol=1e-6)
    value = torch.randn(4, 2, 12)
    seen = vit.attend(1, tokens, (torch.randn(4, 2, 12), value))
    assert not torch.allclose(seen, vit.attend(1, tokens), atol=1e-3)
    assert seen.shape == tokens.shape


def test_what_is_no_plain_vision_transformer_is_not_opened() -> None:
    distilled = timm.create_model("deit_tiny_distilled_patch16_224", **TINY)  # its feature is the mean of two tokens
    pooled = timm_vit(global_pool="avg", class_token=True, fc_norm=False)
    for backbone in (SmallCNN(3), pooled, timm.create_model("resnet10t", num_classes=0), distilled):
        assert "not a plain vision transformer" in str(no_transformer(backbone))
        with pytest.raises(IncompatibleError, match="not a plain vision transformer"):
            opened(backbone)


@pytest.mark.parametrize("backbone", backbones())
def test_fresh_adapters_change_nothing_and_no_weight_of_the_backbone_trains(backbone: nn.Module) -> None:
    expected = backbone(IMAGES).detach()
    adapted = AdaptedTransformer(opened(backbone), rank=2)
    assert torch.allclose(adapted(IMAGES), expected, atol=1e-6)
    adapted(IMAGES).square().sum().backward()
    trained = {name for name, p in adapted.named_parameters() if p.grad is not None}
    assert trained == {"down_weight", "down_bias", "up_weight", "up_bias"}


def test_adapters_are_those_of_the_formula() -> None:
    vit = SmallViT((3, 16, 16), 12, depth=2, heads=3)
    adapted = AdaptedTransformer(vit, rank=5, scale=0.3).eval()
    with torch.no_grad():
        for weight in adapted.weights:
            weight.normal_()
    tokens = vit.embed(IMAGES)
    for layer in range(2):
        tokens = vit.attend(layer, tokens)
        hidden = torch.relu(tokens @ adapted.down_weight[layer].T + adapted.down_bias[layer])
        change = hidden @ adapted.up_weight[layer].T + adapted.up_bias[layer]
        tokens = tokens + vit.feed(layer, tokens) + 0.3 * change
    assert torch.allclose(adapted(IMAGES), vit.finish(tokens)[:, 0], atol=1e-5)


def test_each_example_may_go_through_adapters_of_its_own() -> None:
    adapted = AdaptedTransformer(SmallViT((3, 16, 16), 12, depth=2, heads=3), rank=5).eval()
    sets = [AdapterWeights(*(torch.randn_like(w) for w in adapted.weights)) for _ in range(3)]
    mine = torch.tensor([2, 0, 1, 2])
    stacked = AdapterWeights(*(torch.stack(parts, 1)[:, mine] for parts in zip(*sets, strict=True)))
    with torch.no_grad():
        begun = adapted.begin(IMAGES)
        together = adapted.finish(begun, stacked)
        for row, which in enumerate(mine.tolist()):
            alone = adapted.finish(begun.rows(torch.tensor([row])), sets[which])
            assert torch.allclose(together[row], alone[0], atol=1e-5)
