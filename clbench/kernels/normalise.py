"""From grey values to normalised ones, with the same roundings on every path."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from clbench.kernels.layout import interleaved
from clbench.space import require

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def normalised(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...], channels_last: bool = True) -> Tensor:
    """From 0..255 to (x / 255 - mean) / std, float32.

    Args:
        images: (N, C, H, W), uint8 or float32.
        mean: per channel, in units of [0, 1].
        std: per channel, in units of [0, 1].
        channels_last: memory format of the result.
    """
    if not channels_last:
        scale, shift = affine(mean, std, images.device)
        return images.to(torch.float32, memory_format=torch.contiguous_format).mul(scale).add_(shift)
    # Whole rows of interleaved channels: over three channels at a time, the CPU takes ten times as long.
    count, channels, height, width = images.shape
    rows = interleaved(images).to(torch.float32, copy=True)
    scale, shift = _row(mean, std, width, images.device)
    return rows.mul_(scale).add_(shift).view(count, height, width, channels).permute(0, 3, 1, 2)


@functools.lru_cache(maxsize=8)
def _row(mean: tuple[float, ...], std: tuple[float, ...], width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Factors and summands (W C,) of a row of pixels whose channels are interleaved."""
    scale, shift = affine(mean, std, device)
    return scale.flatten().repeat(width), shift.flatten().repeat(width)


@functools.lru_cache(maxsize=8)
def affine(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Factor and summand (1, C, 1, 1) that take 0..255 to normalised values, float32 both."""
    spread = torch.tensor(std, device=device).view(1, -1, 1, 1)
    return 1 / (255 * spread), -torch.tensor(mean, device=device).view(1, -1, 1, 1) / spread


def check_images(
    operation: str, store: Tensor, mean: tuple[float, ...], std: tuple[float, ...], dtype: torch.dtype
) -> None:
    """See that a store of images can be normalised as asked.

    Args:
        operation: whose arguments these are.
        store: must be (N, C, H, W) uint8.
        mean: must name each channel.
        std: likewise, without zeros.
        dtype: of the result; float32, bfloat16 or float16.

    Raises:
        ConfigError: what does not hold.
    """
    whole = store.dtype == torch.uint8 and store.dim() == 4
    require(whole, f"{operation}: the store", "(N, C, H, W) uint8", kind(store))
    channels = store.shape[1]
    named = len(mean) == len(std) == channels
    require(named, f"{operation}: mean and std", f"{channels} numbers each", f"{len(mean)} and {len(std)}")
    require(0 not in std, f"{operation}: std", "other than 0", std)
    require(dtype in DTYPES, f"{operation}: dtype", "float32, bfloat16 or float16", dtype)


def kind(tensor: Tensor | None) -> str:
    """Shape and type of a tensor, for messages."""
    return "none" if tensor is None else f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
