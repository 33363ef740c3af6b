"""Resizing and cropping of whole image batches on the device they are on, to Pillow's results."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from clbench.augment import Shape, Transform, coins
from clbench.kernels.interpolation import Interpolation, interpolation_weights, resample
from clbench.kernels.normalise import normalised
from clbench.kernels.replay_gather import mirror
from clbench.kernels.replay_rrc import replay_rrc
from clbench.table import Batch

ATTEMPTS = 10  # of torchvision's RandomResizedCrop, before it falls back to a central crop


def random_boxes(
    count: int,
    height: int,
    width: int,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    generator: torch.Generator,
) -> Tensor:
    """Boxes as torchvision's ``RandomResizedCrop`` draws them: area and logarithm of the aspect ratio uniform.

    Args:
        count: boxes wanted, N.
        height: of the images, pixels.
        width: of the images, pixels.
        scale: least and greatest area, as a share of the image's.
        ratio: least and greatest width / height.
        generator: the boxes' device is its device.

    Returns:
        (4, N) float64, whole numbers: top, left, height, width. Where no attempt fits into the image, the greatest
        central box whose aspect ratio is allowed.
    """
    draws = torch.rand(2, ATTEMPTS, count, generator=generator, device=generator.device, dtype=torch.float64)
    area = height * width * (scale[0] + (scale[1] - scale[0]) * draws[0])
    low, high = math.log(ratio[0]), math.log(ratio[1])
    aspect = torch.exp(low + (high - low) * draws[1])
    wide, tall = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
    fits = (wide >= 1) & (wide <= width) & (tall >= 1) & (tall <= height)
    first = fits.to(torch.uint8).argmax(0, keepdim=True)
    tall, wide = tall.gather(0, first)[0], wide.gather(0, first)[0]
    place = torch.rand(2, count, generator=generator, device=generator.device, dtype=torch.float64)
    top, left = (place[0] * (height - tall + 1)).floor(), (place[1] * (width - wide + 1)).floor()
    found, fallback = fits.any(0), _central(height, width, ratio)
    return torch.stack([torch.where(found, a, b) for a, b in zip((top, left, tall, wide), fallback, strict=True)])


def _central(height: int, width: int, ratio: tuple[float, float]) -> tuple[float, float, float, float]:
    tall, wide = height, width
    if width / height < ratio[0]:
        tall = round(width / ratio[0])
    elif width / height > ratio[1]:
        wide = round(height * ratio[1])
    return float((height - tall) // 2), float((width - wide) // 2), float(tall), float(wide)


@functools.lru_cache(maxsize=16)
def _central_weights(
    size_in: int, resized: int, size_out: int, interpolation: Interpolation, device: torch.device
) -> Tensor:
    """Weights (1, size_out, size_in) that resize a whole line to ``resized`` pixels and keep the middle."""
    start, length = torch.zeros(1, dtype=torch.float64), torch.full((1,), size_in, dtype=torch.float64)
    weights = interpolation_weights(start, length, size_in, resized, interpolation)
    first = round((resized - size_out) / 2)  # torchvision's CenterCrop, Python's rounding to even included
    return weights[:, first : first + size_out].float().to(device)


@dataclass(frozen=True)
class CropTransform(Transform):
    """Random-resized crops in training; resize and central crop elsewhere.

    Training: torchvision's ``RandomResizedCrop(size, scale, ratio, bilinear)`` and a random flip. Evaluation:
    ``Resize(resize)`` of the shorter side and ``CenterCrop(size)``.

    Attributes:
        size: height and width that the network takes, pixels.
        resize: of the shorter side before the central crop, pixels; at least ``size``.
        scale: least and greatest share of the area in a random crop; None: training sees what evaluation sees.
        ratio: least and greatest width / height of a random crop.
        flip: mirror at random in training.
        interpolation: of evaluation.
        mean: per channel, in units of [0, 1].
        std: per channel, in units of [0, 1]. With mean 0 and std 1, inputs are in [0, 1].
    """

    size: int
    resize: int
    scale: tuple[float, float] | None = (0.05, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: bool = True
    interpolation: Interpolation = Interpolation.BICUBIC
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)

    def train(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Flip, crop, resize and normalise column ``image`` (N, C, H, W), uint8 into float32 (N, C, size, size)."""
        images = batch["image"]
        mirrored = coins(len(images), generator).to(images.device) if self.flip else None
        if self.scale is None:
            return self.evaluate({**batch, "image": images if mirrored is None else mirror(images, mirrored)})
        height, width = images.shape[2:]
        boxes = random_boxes(len(images), height, width, self.scale, self.ratio, generator).float().to(images.device)
        cropped = replay_rrc(images, boxes, self.size, mirrored=mirrored, mean=self.mean, std=self.std)
        return {**batch, "image": cropped}

    def evaluate(self, batch: Batch) -> Batch:
        """Resize, crop and normalise column ``image`` (N, C, H, W), uint8 into float32 (N, C, size, size)."""
        images = batch["image"]
        height, width = images.shape[2:]
        short = min(height, width)
        rows, columns = (
            _central_weights(side, self.resize * side // short, self.size, self.interpolation, images.device)
            for side in (height, width)
        )
        return {**batch, "image": self._finished(resample(images, rows, columns))}

    def output_shape(self, stored: Shape) -> Shape:
        """A square of ``size``."""
        return stored[0], self.size, self.size

    def _finished(self, images: Tensor) -> Tensor:
        return normalised(images, self.mean, self.std)


def pretrained_transform(size: int, augment: bool = True) -> CropTransform:
    """The transform of the field that starts from pre-trained ViTs (L2P, SimpleCIL, PILOT and after).

    Training crops cover 5 to 100 % of the area; evaluation resizes the shorter side to size * 256/224 and crops.
    Inputs stay in [0, 1], without mean and standard deviation, though the networks were trained with others: every
    published number of this family is measured so.
    """
    return CropTransform(size, evaluation_resize(size), scale=(0.05, 1.0) if augment else None, flip=augment)


def evaluation_resize(size: int) -> int:
    """Pixels of the shorter side before a central crop of ``size``: 256 for 224, and in that ratio."""
    return round(size * 256 / 224)
