"""Augmentation of whole image batches on the device they are on, every random number from a given generator."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from clbench.table import Batch


def random_crop(images: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    """Pad with zeros, then cut out one window per image at its own offset.

    Args:
        images: (N, C, H, W), any dtype.
        padding: pixels on each side; the offsets are uniform over the (2 padding + 1)^2 windows.
        generator: on the images' device or on the CPU.

    Returns:
        (N, C, H, W), the same dtype.
    """
    count, _, height, width = images.shape
    padded = F.pad(images, (padding,) * 4)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # a view: (N, C, 2p+1, 2p+1, H, W)
    offsets = torch.randint(2 * padding + 1, (2, count), generator=generator, device=generator.device)
    offsets = offsets.to(images.device)
    return windows[torch.arange(count, device=images.device), :, offsets[0], offsets[1]]


def random_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each image (N, C, H, W) left to right with probability one half."""
    coins = torch.rand(len(images), generator=generator, device=generator.device) < 0.5
    return torch.where(coins.to(images.device)[:, None, None, None], images.flip(3), images)


@dataclass(frozen=True)
class ImageTransform:
    """From stored uint8 images to what a network takes.

    Attributes:
        mean: per channel, in units of [0, 1].
        std: per channel, in units of [0, 1].
        padding: pixels of the random crop in training; 0 for none.
        flip: mirror at random in training.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    padding: int = 0
    flip: bool = False

    def train(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Augment and normalise column ``image`` (N, C, H, W), uint8 into float32; the other columns stay."""
        images = batch["image"]
        if self.padding:
            images = random_crop(images, self.padding, generator)
        if self.flip:
            images = random_flip(images, generator)
        return self.evaluate({**batch, "image": images})

    def evaluate(self, batch: Batch) -> Batch:
        """Normalise column ``image`` (N, C, H, W), uint8 into float32; the other columns stay."""
        images = batch["image"]
        scale, shift = self._affine(images.device)
        return {**batch, "image": torch.addcmul(shift, images.float(), scale)}

    def _affine(self, device: torch.device) -> tuple[Tensor, Tensor]:
        std = torch.tensor(self.std, device=device).view(1, -1, 1, 1)
        mean = torch.tensor(self.mean, device=device).view(1, -1, 1, 1)
        return 1 / (255 * std), -mean / std
