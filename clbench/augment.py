"""Augmentation of whole image batches on the device they are on, every random number from a given generator."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from clbench.table import Batch

Shape: TypeAlias = tuple[int, ...]
"""Of one example: (C, H, W) of an image, (L,) of a text."""


class Transform(ABC):
    """From stored examples, uint8 images unless said otherwise, to what a network takes.

    A frozen dataclass whose repr says all that it does: it stands in the record of every run.
    """

    reads: ClassVar[str] = "image"
    """The column that it takes."""

    @property
    @abstractmethod
    def flip(self) -> bool:
        """Whether training mirrors at random."""

    @abstractmethod
    def train(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Augment and normalise column ``image`` (N, C, H, W), uint8 into float32; the other columns stay."""

    @abstractmethod
    def evaluate(self, batch: Batch) -> Batch:
        """Normalise column ``image`` (N, C, H, W), uint8 into float32, channels last; the other columns stay."""

    @abstractmethod
    def output_shape(self, stored: Shape) -> Shape:
        """Shape (C, H, W) of what becomes of an image that is stored as ``stored``."""


def random_crop(images: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    """Pad with zeros, then cut out one window per image at its own offset.

    Args:
        images: (N, C, H, W), any dtype.
        padding: pixels on each side; the offsets are uniform over the (2 padding + 1)^2 windows.
        generator: on the images' device or on the CPU.

    Returns:
        (N, C, H, W), the same dtype.
    """
    count, channels, height, width = images.shape
    offsets = torch.randint(2 * padding + 1, (2, count), generator=generator, device=generator.device)
    down, right = offsets.to(images.device)
    tall, wide = height + 2 * padding, width + 2 * padding
    places = torch.arange(max(count, channels, height), device=images.device)
    # Where each row of each crop begins in the flat padded batch: whole rows are copied far faster than pixels.
    starts = (places[:count] * (channels * tall * wide) + down * wide + right)[:, None, None]
    starts = starts + places[:channels, None] * (tall * wide) + places[:height] * wide
    padded = F.pad(images, (padding,) * 4).flatten()
    windows = padded.as_strided((max(len(padded) - width + 1, 0), width), (1, 1))  # a view: (all rows anywhere, W)
    return windows.index_select(0, starts.flatten()).view(images.shape)


def random_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each image (N, C, H, W) left to right with probability one half."""
    coins = torch.rand(len(images), generator=generator, device=generator.device) < 0.5
    chosen = torch.arange(len(images), device=images.device) + len(images) * coins.to(images.device)
    return torch.cat((images, images.flip(3))).index_select(0, chosen)


@dataclass(frozen=True)
class ImageTransform(Transform):
    """Images that a network takes in the size they are stored in.

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
        """Normalise column ``image`` (N, C, H, W), uint8 into float32, channels last; the other columns stay."""
        images = batch["image"].to(torch.float32, memory_format=torch.channels_last)
        return {**batch, "image": normalise_(images, self.mean, self.std)}

    def output_shape(self, stored: Shape) -> Shape:
        """As it is stored."""
        return stored


def normalise_(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """From 0..255 to (x / 255 - mean) / std, in place.

    Args:
        images: (N, C, H, W) float32.
        mean: per channel, in units of [0, 1].
        std: per channel, in units of [0, 1].
    """
    scale, shift = _affine(mean, std, images.device)
    return images.mul_(scale).add_(shift)


@dataclass(frozen=True)
class Unchanged(Transform):
    """No transform: for batches of features instead of images.

    Attributes:
        of: the transform that the features were computed with.
        flip: false.
    """

    of: str = ""
    flip: bool = False

    def output_shape(self, shape: Shape) -> Shape:
        """Of the images that the features belong to."""
        return shape

    def train(self, batch: Batch, generator: torch.Generator) -> Batch:
        """The batch itself."""
        return batch

    def evaluate(self, batch: Batch) -> Batch:
        """The batch itself."""
        return batch


@functools.lru_cache(maxsize=8)
def _affine(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Factor and summand (1, C, 1, 1) that take 0..255 to normalised values."""
    spread = torch.tensor(std, device=device).view(1, -1, 1, 1)
    return 1 / (255 * spread), -torch.tensor(mean, device=device).view(1, -1, 1, 1) / spread
