"""A convolutional network of 24 thousand parameters: quick runs on small images, and tests."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class ConvStage(nn.Module):
    """3x3 convolution of stride 2, batch normalisation, ReLU."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels_out)

    def forward(self, images: Tensor) -> Tensor:
        """From (N, channels_in, H, W) to (N, channels_out, ceil(H / 2), ceil(W / 2))."""
        return F.relu(self.norm(self.conv(images)))


class SmallCNN(nn.Module):
    """Three stages of doubling width and global average pooling; sides of 1 pixel and more.

    Args:
        channels: of the images.
        width: channels of the first stage.

    Attributes:
        features_out: length of a feature vector, ``4 * width``.
    """

    def __init__(self, channels: int, width: int = 16) -> None:
        super().__init__()
        self.features_out = 4 * width
        self.stages = nn.Sequential(
            ConvStage(channels, width), ConvStage(width, 2 * width), ConvStage(2 * width, self.features_out)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Features (N, features_out) of images (N, C, H, W), floating point."""
        hidden: Tensor = self.stages(images)
        return hidden.mean((2, 3))
