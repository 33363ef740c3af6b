from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import CenterCrop, InterpolationMode, RandomResizedCrop, Resize

from clbench.images.crops import CropTransform, pretrained_transform, random_boxes
from clbench.kernels.interpolation import Interpolation

TIES = 0.25  # of all pixels at most: Pillow rounds halves by its integer weights
MODES = {Interpolation.BILINEAR: InterpolationMode.BILINEAR, Interpolation.BICUBIC: InterpolationMode.BICUBIC}


def pictures(count: int, height: int, width: int) -> Tensor:
    """Noise with hard edges, which overshoots under bicubic kernels."""
    draws = torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0))
    hard = (draws > 0.5).float() * 255
    return torch.where(draws[:, :1] < 0.7, hard, draws * 255).to(torch.uint8)


def pillow(image: Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).numpy())


def tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float()


@pytest.mark.parametrize(
    ("shape", "size", "interpolation"),
    [
        *product([(32, 32), (64, 48), (51, 90), (256, 256)], [28, 56], Interpolation),
        ((64, 64), 224, Interpolation.BICUBIC),
    ],
)
def test_evaluation_is_torchvisions_resize_and_centre_crop(
    shape: tuple[int, int], size: int, interpolation: Interpolation
) -> None:
    resize = round(size * 256 / 224)
    transform = CropTransform(size, resize, interpolation=interpolation)
    images = pictures(2, *shape)
    for image, got in zip(images, transform.evaluate({"image": images})["image"], strict=True):
        wanted = tensor(CenterCrop(size)(Resize(resize, MODES[interpolation])(pillow(image))))
        assert (got * 255 - wanted).abs().max() <= 1.001
        assert ((got * 255 - wanted).abs() > 0.001).float().mean() < TIES


@pytest.mark.parametrize(("height", "width"), [(32, 32), (20, 60)])
def test_boxes_are_distributed_as_torchvisions(height: int, width: int) -> None:
    count, scale, ratio = 4000, (0.3, 1.0), (3 / 4, 4 / 3)
    ours = random_boxes(count, height, width, scale, ratio, torch.Generator().manual_seed(0))
    blank = torch.zeros(1, height, width)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = torch.tensor([RandomResizedCrop.get_params(blank, list(scale), list(ratio)) for _ in range(count)]).T
    for mine, reference in zip(ours, theirs.double(), strict=True):
        levels = torch.linspace(0, 1, 21, dtype=torch.float64)
        values = torch.quantile(reference, levels)
        shares = [((column[:, None] <= values).double().mean(0)) for column in (mine, reference)]
        # Kolmogorov-Smirnov: 1.95 sqrt(2 / n) is exceeded once in a thousand draws of equal distributions.
        assert (shares[0] - shares[1]).abs().max() < 1.95 * (2 / count) ** 0.5


def test_boxes_that_never_fit_are_the_central_ones_of_torchvision() -> None:
    scale, ratio = (0.9, 1.0), (3 / 4, 4 / 3)
    for height, width in ((10, 60), (60, 10)):
        ours = random_boxes(5, height, width, scale, ratio, torch.Generator().manual_seed(0))
        theirs = RandomResizedCrop.get_params(torch.zeros(1, height, width), list(scale), list(ratio))
        assert ours.T.tolist() == [list(map(float, theirs))] * 5


def test_boxes_lie_inside_and_reach_every_edge() -> None:
    top, left, tall, wide = random_boxes(5000, 8, 8, (0.05, 1.0), (3 / 4, 4 / 3), torch.Generator().manual_seed(0))
    assert top.min() == left.min() == 0
    assert (top + tall).max() == (left + wide).max() == 8
    assert tall.min() >= 1
    assert wide.min() >= 1


def test_training_crops_and_mirrors_by_the_generator_alone() -> None:
    transform = pretrained_transform(24)
    batch = {"image": pictures(8, 32, 32), "label": torch.arange(8)}
    before = torch.random.get_rng_state()
    first, again, other = (transform.train(batch, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(first["image"], again["image"])
    assert not torch.equal(first["image"], other["image"])
    assert torch.equal(torch.random.get_rng_state(), before)
    assert first["image"].shape == (8, *transform.output_shape((3, 32, 32)))
    assert 0 <= float(first["image"].min()) < float(first["image"].max()) <= 1
    assert torch.equal(first["label"], batch["label"])


def test_half_of_the_training_images_are_mirrored() -> None:
    ramp = torch.arange(32, dtype=torch.uint8).mul(8).expand(400, 3, 32, 32)
    shown = pretrained_transform(16).train({"image": ramp}, torch.Generator().manual_seed(0))["image"]
    rising = Counter((shown[:, 0, 8, -1] > shown[:, 0, 8, 0]).tolist())
    assert 150 < rising[True] < 250


def test_without_augmentation_training_sees_what_evaluation_sees() -> None:
    transform = pretrained_transform(24, augment=False)
    batch = {"image": pictures(4, 32, 32)}
    trained = transform.train(batch, torch.Generator())["image"]
    assert torch.equal(trained, transform.evaluate(batch)["image"])


def test_normalisation_comes_last() -> None:
    batch = {"image": pictures(2, 16, 16)}
    plain = CropTransform(14, 16).evaluate(batch)["image"]
    shifted = CropTransform(14, 16, mean=(0.5,) * 3, std=(0.25,) * 3).evaluate(batch)["image"]
    assert torch.allclose((plain - 0.5) / 0.25, shifted, atol=1e-5)


def test_the_repr_says_everything() -> None:
    text = repr(pretrained_transform(224))
    for part in ("size=224", "resize=256", "scale=(0.05, 1.0)", "bicubic", "flip=True", "mean=(0.0", "std=(1.0"):
        assert part in text
