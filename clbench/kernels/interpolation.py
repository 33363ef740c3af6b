"""Resizing of whole image batches by weights, to Pillow's results.

Pillow's antialiased interpolation is separable: each output row is a weighted sum of input rows, then likewise for
columns. The weights of a whole batch, every image with a box of its own, are two tensors (N, out, in), so that a
batch of random-resized crops is two batched matrix products.
"""

from __future__ import annotations

from enum import Enum

import torch
from torch import Tensor


class Interpolation(Enum):
    """Pillow's kernels."""

    BILINEAR = "bilinear"
    BICUBIC = "bicubic"  # Keys 1981 with a = -0.5

    def __repr__(self) -> str:
        return repr(self.value)


def _kernel(distance: Tensor, interpolation: Interpolation) -> Tensor:
    x = distance.abs()
    if interpolation is Interpolation.BILINEAR:
        return (1 - x).clamp_(min=0)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


def interpolation_weights(
    start: Tensor, length: Tensor, size_in: int, size_out: int, interpolation: Interpolation
) -> Tensor:
    """Weights that resize a stretch of a line to ``size_out`` pixels; pixels outside of it have no influence.

    Args:
        start: first pixel of each stretch, (N,) floating point.
        length: pixels of each stretch, (N,) floating point.
        size_in: pixels of the line.
        size_out: pixels wanted.
        interpolation: the kernel, widened where the stretch shrinks (antialiasing).

    Returns:
        (N, size_out, size_in) of start's type; each row sums to 1.
    """
    scale = (length / size_out)[:, None]
    centre = start[:, None] + (torch.arange(size_out, device=start.device, dtype=start.dtype) + 0.5) * scale
    pixel = torch.arange(size_in, device=start.device, dtype=start.dtype) + 0.5
    weights = _kernel((pixel - centre[..., None]) / scale.clamp(min=1)[..., None], interpolation)
    end = (start + length)[:, None]
    weights *= ((pixel > start[:, None]) & (pixel < end))[:, None]
    return weights / weights.sum(2, keepdim=True)


def resample(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Weighted sums of columns, then of rows, each rounded to whole grey values as Pillow does.

    Args:
        images: (N, C, H, W) uint8.
        rows: (N, H', H) float32, or N = 1 for all images.
        columns: (N, W', W) float32, or N = 1 for all images.

    Returns:
        (N, C, H', W') float32, whole numbers in 0..255.
    """
    count, channels, height, width = images.shape
    lines = images.reshape(count, channels * height, width).float()
    wide = _grey_values_(torch.matmul(lines, columns.transpose(1, 2)))
    return _grey_values_(torch.matmul(rows[:, None], wide.view(count, channels, height, -1)))


def _grey_values_(images: Tensor) -> Tensor:
    return images.add_(0.5).floor_().clamp_(0, 255)  # halves go up, as Pillow's do
