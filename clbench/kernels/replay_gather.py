"""Batches from a resident store of uint8 images: rows, random crop, random flip, normalisation.

    image[b, c, y, x] = store[row_b, c, y + down_b - padding, mirror_b(x) + right_b - padding] * scale_c + shift_c

with zeros around the stored image, mirror_b(x) = W - 1 - x where image b is mirrored, and scale and shift float32
(`clbench.kernels.normalise`). Rows, windows and mirrorings are handed over (`Given`), or follow from a seed and a step
by counters (`Seeded`), so that a step's batch is the same on every device and in any order of the steps. The step may
be a tensor on the GPU: a CUDA graph that was captured once then draws anew in every replay.

Kernel and reference give the same bits in float32: the product and the sum are rounded apart in both. In the half
precisions both round that result to nearest.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from clbench.kernels.dispatch import by_triton
from clbench.kernels.draws import Draws, Given, check_draws, drawn
from clbench.kernels.layout import interleaved, is_channels_last, pick
from clbench.kernels.library import empty_images, register
from clbench.kernels.normalise import affine, check_images, kind, normalised
from clbench.space import require


class Replayed(NamedTuple):
    """One batch.

    Attributes:
        images: (B, C, H, W), normalised.
        rows: in the store, (B,) int64; None where `Given` named none.
        labels: (B,) int64; None where there are none.
        logits: (B, K); None where there are none.
    """

    images: Tensor
    rows: Tensor | None
    labels: Tensor | None
    logits: Tensor | None


def replay_gather(
    store: Tensor,
    draws: Draws,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    padding: int = 0,
    labels: Tensor | None = None,
    logits: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
    channels_last: bool = True,
) -> Replayed:
    """One augmented batch of the store.

    Args:
        store: (N, C, H, W) uint8, any strides.
        draws: which rows, windows and mirrorings. Row numbers are not looked at on a GPU, which would wait for them.
        mean: per channel, in units of [0, 1].
        std: per channel, in units of [0, 1].
        padding: zeros on each side of a stored image that a window may reach.
        labels: (N,) int64, gathered likewise.
        logits: (N, K) floating point, gathered likewise.
        dtype: of the images; float32, bfloat16 or float16.
        channels_last: memory format of the images.

    Raises:
        ConfigError: shapes, types or ranges are not these.
        IncompatibleError: `CLBENCH_KERNELS` asks for a kernel that cannot run.
    """
    if torch.compiler.is_compiling() and isinstance(draws, Given):
        return _with_columns(_traced(store, *draws, mean, std, padding, dtype, channels_last), draws, labels, logits)
    _check(store, draws, mean, std, padding, labels, logits, dtype)
    kept = [t for t in (*draws, labels, logits) if isinstance(t, Tensor)]
    if by_triton("replay_gather", [store, *kept]):
        from clbench.kernels.compiled import replay_gather as compiled

        scale, shift = affine(mean, std, store.device)
        made = compiled.launch(store, draws, scale, shift, padding, labels, logits, dtype, channels_last)
        return Replayed(*made)
    given = draws if isinstance(draws, Given) else drawn(draws, len(store), padding, store.device)
    return _with_columns(_images(store, given, mean, std, padding, dtype, channels_last), given, labels, logits)


def crop(images: Tensor, offsets: Tensor, padding: int) -> Tensor:
    """Windows of images between zeros.

    Args:
        images: (N, C, H, W), any dtype.
        offsets: (2, N) int64, down and right, each in [0, 2 padding].
        padding: zeros on each side.

    Returns:
        (N, C, H, W), the same dtype, laid out as the images are.
    """
    count, channels, height, width = images.shape
    last = is_channels_last(images)
    planes, unit = (interleaved(images)[:, None], channels) if last else (images, 1)
    parts, long, tall, wide = planes.shape[1], width * unit, height + 2 * padding, (width + 2 * padding) * unit
    corners = offsets[0] * wide + offsets[1] * unit
    starts = _row_starts(count, parts, height, tall, wide, images.device) + corners[:, None, None]
    padded = F.pad(planes, (padding * unit, padding * unit, padding, padding)).flatten()
    windows = padded.as_strided((max(len(padded) - long + 1, 0), long), (1, 1))  # a view: (all rows anywhere, long)
    cropped = windows.index_select(0, starts.flatten())
    return cropped.view(count, height, width, channels).permute(0, 3, 1, 2) if last else cropped.view(images.shape)


@functools.lru_cache(maxsize=16)
def _row_starts(count: int, parts: int, height: int, tall: int, wide: int, device: torch.device) -> Tensor:
    """Where the first rows of each plane begin in a flat batch (count, parts, tall, wide), (count, parts, height).

    Whole rows are copied far faster than pixels.
    """
    images, planes, rows = (torch.arange(n, device=device) for n in (count, parts, height))
    return images[:, None, None] * (parts * tall * wide) + planes[:, None] * (tall * wide) + rows * wide


def mirror(images: Tensor, mirrored: Tensor) -> Tensor:
    """Images (N, C, H, W), left and right exchanged where ``mirrored`` (N,) bool says so; laid out as they are."""
    chosen = torch.arange(len(images), device=images.device) + len(images) * mirrored
    return pick(torch.cat((images, images.flip(3))), chosen)


def _with_columns(images: Tensor, given: Given, labels: Tensor | None, logits: Tensor | None) -> Replayed:
    found = [t if t is None or given.rows is None else t.index_select(0, given.rows) for t in (labels, logits)]
    return Replayed(images, given.rows, *found)


def _images(
    store: Tensor,
    given: Given,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    padding: int,
    dtype: torch.dtype,
    channels_last: bool,
) -> Tensor:
    images = store if given.rows is None else pick(store, given.rows)
    if given.offsets is not None:
        images = crop(images, given.offsets, padding)
    if given.mirrored is not None:
        images = mirror(images, given.mirrored)
    return normalised(images, mean, std, channels_last).to(dtype)


def _check(
    store: Tensor,
    draws: Draws,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    padding: int,
    labels: Tensor | None,
    logits: Tensor | None,
    dtype: torch.dtype,
) -> None:
    check_images("replay_gather", store, mean, std, dtype)
    require(padding >= 0, "replay_gather: padding", ">= 0", padding)
    for name, column, rank in (("labels", labels, 1), ("logits", logits, 2)):
        fits = column is None or (len(column) == len(store) and column.dim() == rank)
        require(fits, f"replay_gather: {name}", f"{rank}-dimensional with a row per image", kind(column))
    check_draws("replay_gather", draws, len(store))


def _node(store: Tensor, *rest: Any) -> Tensor:
    *given, mean, std, padding, dtype, channels_last = rest
    named = {"mean": tuple(mean), "std": tuple(std), "padding": padding, "dtype": dtype, "channels_last": channels_last}
    images = replay_gather(store, Given(*given), **named).images
    return images.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def _fake(store: Tensor, rows: Tensor | None, *rest: Any) -> Tensor:
    *_, dtype, channels_last = rest
    count, (height, width) = len(store if rows is None else rows), store.shape[2:]
    return empty_images(store, count, height, width, dtype, channels_last)


register(
    "replay_gather(Tensor store, Tensor? rows, Tensor? offsets, Tensor? mirrored, float[] mean, float[] std, "
    "int padding, ScalarType dtype, bool channels_last) -> Tensor",
    _node,
    _fake,
)
_traced = torch.ops.clbench.replay_gather.default
