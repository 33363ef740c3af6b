"""Residual networks for small images (He et al. 2016, arXiv 1512.03385).

`ResNet32` is the CIFAR network of section 4.2, `ResNet18` the ImageNet network of section 4.1 with a stem for 32-pixel
images. At width 20 the latter is the slim ResNet-18 of GEM (Lopez-Paz and Ranzato 2017, arXiv 1706.08840, section 5).
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn


class ZeroPaddedShortcut(nn.Module):
    """Every second pixel, and zeros for the channels to come: option A of section 3.3, without parameters."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.added = channels_out - channels_in

    def forward(self, images: Tensor) -> Tensor:
        """From (N, C, H, W) to (N, C + added, ceil(H / 2), ceil(W / 2))."""
        return F.pad(images[:, :, ::2, ::2], (0, 0, 0, 0, 0, self.added))


class ProjectionShortcut(nn.Sequential):
    """A strided 1x1 convolution and batch normalisation: option B of section 3.3."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(nn.Conv2d(channels_in, channels_out, 1, stride=2, bias=False), nn.BatchNorm2d(channels_out))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut; the first of a stage halves the sides and doubles the channels.

    Args:
        channels_in: channels that come in.
        channels_out: channels that go out; the stride is 2 where they differ.
        shortcut: what stands in for the identity where shapes differ.
    """

    def __init__(self, channels_in: int, channels_out: int, shortcut: Callable[[int, int], nn.Module]) -> None:
        super().__init__()
        same = channels_in == channels_out
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride=1 if same else 2, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels_out)
        self.shortcut = nn.Identity() if same else shortcut(channels_in, channels_out)

    def forward(self, images: Tensor) -> Tensor:
        """From (N, channels_in, H, W) to (N, channels_out, H', W')."""
        hidden = F.relu(self.norm1(self.conv1(images)))
        return F.relu(self.norm2(self.conv2(hidden)) + self.shortcut(images))


class ResNet(nn.Module):
    """A 3x3 stem without pooling, stages of doubling width, global average pooling.

    Args:
        channels: of the images.
        width: channels of the first stage.
        depths: blocks per stage.
        shortcut: of the blocks that change the shape.

    Attributes:
        features_out: length of a feature vector, ``width * 2 ** (stages - 1)``.
    """

    def __init__(
        self, channels: int, width: int, depths: tuple[int, ...], shortcut: Callable[[int, int], nn.Module]
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        stages, incoming = [], width
        for stage, depth in enumerate(depths):
            outgoing = width * 2**stage
            sizes = [incoming] + [outgoing] * (depth - 1)
            stages.append(nn.Sequential(*(BasicBlock(size, outgoing, shortcut) for size in sizes)))
            incoming = outgoing
        self.stages = nn.Sequential(*stages)
        self.features_out = incoming

    def forward(self, images: Tensor) -> Tensor:
        """Features (N, features_out) of images (N, C, H, W), floating point."""
        hidden: Tensor = self.stages(F.relu(self.norm(self.conv(images))))
        return hidden.mean((2, 3))


class ResNet32(ResNet):
    """Three stages of five blocks, zero-padded shortcuts, 0.46 million parameters at width 16.

    Convolutions are drawn from N(0, 2 / (9 channels_out)) (He et al. 2015, arXiv 1502.01852, section 2.2).

    Args:
        channels: of the images.
        width: channels of the first stage.
    """

    def __init__(self, channels: int, width: int = 16) -> None:
        super().__init__(channels, width, (5, 5, 5), ZeroPaddedShortcut)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class ResNet18(ResNet):
    """Four stages of two blocks, projection shortcuts, 11.2 million parameters at width 64; PyTorch's initialisation.

    Args:
        channels: of the images.
        width: channels of the first stage; 20 in GEM.
    """

    def __init__(self, channels: int, width: int = 64) -> None:
        super().__init__(channels, width, (2, 2, 2, 2), ProjectionShortcut)
