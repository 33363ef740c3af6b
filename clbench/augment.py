"""Augmentation of whole image batches on the device they are on, every random number from a given generator."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import torch
from torch import Tensor

from clbench.kernels.draws import Given
from clbench.kernels.normalise import normalised
from clbench.kernels.replay_gather import replay_gather
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


def crop_offsets(count: int, padding: int, generator: torch.Generator) -> Tensor:
    """Where windows begin, down and right: (2, N) int64, uniform over the (2 padding + 1)^2 windows."""
    return torch.randint(2 * padding + 1, (2, count), generator=generator, device=generator.device)


def coins(count: int, generator: torch.Generator) -> Tensor:
    """Which images are mirrored: (N,) bool, each with probability one half."""
    return torch.rand(count, generator=generator, device=generator.device) < 0.5


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
        offsets = crop_offsets(len(images), self.padding, generator).to(images.device) if self.padding else None
        mirrored = coins(len(images), generator).to(images.device) if self.flip else None
        draws = Given(offsets=offsets, mirrored=mirrored)
        made = replay_gather(images, draws, mean=self.mean, std=self.std, padding=self.padding)
        return {**batch, "image": made.images}

    def evaluate(self, batch: Batch) -> Batch:
        """Normalise column ``image`` (N, C, H, W), uint8 into float32, channels last; the other columns stay."""
        return {**batch, "image": normalised(batch["image"], self.mean, self.std)}

    def output_shape(self, stored: Shape) -> Shape:
        """As it is stored."""
        return stored


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
