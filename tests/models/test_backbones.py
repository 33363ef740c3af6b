import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from clbench.errors import ConfigError, IncompatibleError
from clbench.models.build import NAMES, build_backbone
from clbench.models.config import EMBEDDED, ModelConfig
from clbench.models.resnet import ResNet18, ResNet32, ZeroPaddedShortcut
from clbench.models.small_cnn import ConvStage, SmallCNN
from clbench.models.small_vit import Attention, SmallViT


def parameters(network: nn.Module, classes: int, features: int) -> int:
    """Parameters of the backbone and of a linear head for ``classes``."""
    return sum(p.numel() for p in network.parameters()) + classes * (features + 1)


@pytest.mark.parametrize(
    ("build", "classes", "features", "count"),
    [
        (lambda: ResNet32(3), 10, 64, 464_154),  # He et al. 2016, table 6: 0.46M
        (lambda: ResNet18(3), 10, 512, 11_173_962),
        (lambda: ResNet18(3, 20), 10, 160, 1_094_750),
        (lambda: SmallCNN(3), 20, 64, 24_996),
    ],
)
def test_parameter_counts(build: Callable[[], nn.Module], classes: int, features: int, count: int) -> None:
    network = build()
    assert network.features_out == features
    assert parameters(network, classes, features) == count


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32)])
@pytest.mark.parametrize(
    ("name", "width"), [(name, None) for name in NAMES] + [(name, 8) for name in NAMES if name != EMBEDDED]
)
def test_features_and_gradients(name: str, width: int | None, shape: tuple[int, int, int]) -> None:
    backbone = build_backbone(ModelConfig(width=width), shape, name)
    features = backbone(torch.randn(2, *shape))
    assert features.shape == (2, backbone.features_out)
    assert features.dtype == torch.float32
    features.square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in backbone.parameters())


@pytest.mark.parametrize("side", [1, 2, 3, 7])
def test_small_cnn_takes_the_smallest_images(side: int) -> None:
    assert SmallCNN(1).eval()(torch.randn(2, 1, side, side)).shape == (2, 64)


def test_stages_are_modules_of_one_class() -> None:
    stages = [m for m in SmallCNN(1).modules() if isinstance(m, ConvStage)]
    assert [[name for name, _ in stage.named_children()] for stage in stages] == [["conv", "norm"]] * 3


def test_the_zero_padded_shortcut_keeps_every_second_pixel() -> None:
    images = torch.randn(2, 3, 5, 5)
    result = ZeroPaddedShortcut(3, 6)(images)
    assert result.shape == (2, 6, 3, 3)
    assert torch.equal(result[:, :3, 1, 2], images[:, :, 2, 4])
    assert not result[:, 3:].any()


def attention_by_hand(module: Attention, tokens: Tensor) -> Tensor:
    """Attention with a loop over images, heads and tokens."""
    query, key, value = module.query(tokens), module.key(tokens), module.value(tokens)
    count, length, width = tokens.shape
    size = width // module.heads
    mixed = torch.zeros_like(tokens)
    for image in range(count):
        for head in range(module.heads):
            part = slice(head * size, (head + 1) * size)
            for t in range(length):
                scores = [float(query[image, t, part] @ key[image, s, part]) / math.sqrt(size) for s in range(length)]
                weights = [math.exp(score - max(scores)) for score in scores]
                for s in range(length):
                    mixed[image, t, part] += weights[s] / sum(weights) * value[image, s, part]
    return torch.as_tensor(module.out(mixed))


def test_attention_is_the_formula() -> None:
    torch.manual_seed(0)
    module, tokens = Attention(12, 3).double(), torch.randn(2, 5, 12, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(module(tokens), attention_by_hand(module, tokens), rtol=1e-12, atol=1e-12)


def test_small_vit_names_its_projections() -> None:
    linear = {name for name, m in SmallViT((1, 8, 8)).blocks[0].named_modules() if isinstance(m, nn.Linear)}
    attention = {f"attention.{part}" for part in ("query", "key", "value", "out")}
    assert linear == attention | {"feed_forward.up", "feed_forward.down"}


@pytest.mark.parametrize(("side", "patches"), [(8, 16), (32, 64), (64, 64)])
def test_small_vit_chooses_its_patches(side: int, patches: int) -> None:
    assert SmallViT((3, side, side)).positions.shape == (1, patches + 1, 64)


def test_patches_that_do_not_fit_are_refused() -> None:
    with pytest.raises(IncompatibleError, match="patches of 3 x 3 pixels, which does not divide images of 28 x 28"):
        build_backbone(ModelConfig(), (1, 28, 28), "small_vit")


def test_a_width_that_the_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.width of small_vit must be a multiple of its 4 heads, got 30"):
        build_backbone(ModelConfig(width=30), (1, 8, 8), "small_vit")


def test_the_embedded_backbone_has_the_width_of_its_weights() -> None:
    with pytest.raises(ConfigError, match=r"model.width is part of pretrained_vit's weights, got 8"):
        build_backbone(ModelConfig(EMBEDDED, width=8), (1, 8, 8), "small_cnn")
