"""The kernel of `clbench.kernels.replay_rrc`: one launch per batch."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from clbench.kernels.compiled import OPTIONS
from clbench.kernels.compiled.pixels import coordinates, store_normalised
from clbench.kernels.library import empty_images

BLOCK = 1024  # pixels of one program


@triton.jit
def weights(out, start, length, scale):
    """The lower of the two pixels of a line that an output pixel is made of, and both weights.

    As `clbench.kernels.interpolation` computes them for a stretch that does not shrink, in the same order of roundings.
    """
    centre = start + (out.to(tl.float32) + 0.5) * scale
    pixel = tl.floor(centre - 0.5)
    low = tl.maximum(1.0 - tl.abs((pixel + 0.5) - centre), 0.0)
    high = tl.maximum(1.0 - tl.abs((pixel + 1.5) - centre), 0.0)
    low = tl.where((pixel >= start) & (pixel < start + length), low, 0.0)
    high = tl.where((pixel + 1.0 >= start) & (pixel + 1.0 < start + length), high, 0.0)
    total = tl.where(low + high > 0.0, low + high, 1.0)  # zero only beside the image, where nothing is stored
    return pixel.to(tl.int32), tl.div_rn(low, total), tl.div_rn(high, total)


@triton.jit
def mixed(one, other, low, high):
    """A weighted sum, rounded to a whole grey value."""
    total = tl.floor(tl.fma(other, high, one * low) + 0.5)
    return tl.minimum(tl.maximum(total, 0.0), 255.0)


@triton.jit
def line(store, y, x0, x1, low, high, stride_h, stride_w, inside):
    """Output pixels of one stored row; a pixel of weight zero may lie outside of it and is not read."""
    one = tl.load(store + y * stride_h + x0 * stride_w, mask=inside & (low > 0.0), other=0).to(tl.float32)
    other = tl.load(store + y * stride_h + x1 * stride_w, mask=inside & (high > 0.0), other=0).to(tl.float32)
    return mixed(one, other, low, high)


@triton.jit
def kernel(store, index, boxes, scales, mirrored, scale, shift, crops, batch, stride_n, stride_c, stride_h, stride_w,
           C, W, S, INDEXED: tl.constexpr, FLIP: tl.constexpr, CHANNELS_LAST: tl.constexpr,
           BLOCK: tl.constexpr):  # fmt: skip
    """Program (b, t) makes block t of crop b."""
    b = tl.program_id(0).to(tl.int64)
    i = b
    if INDEXED:
        i = tl.load(index + b).to(tl.int64)
    e = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = e < C * S * S
    c, y, x = coordinates(e, C, S, S, CHANNELS_LAST)
    top = tl.load(boxes + b)
    left = tl.load(boxes + batch + b)
    y0, above, below = weights(y, top, tl.load(boxes + 2 * batch + b), tl.load(scales + b))
    x0, low, high = weights(x, left, tl.load(boxes + 3 * batch + b), tl.load(scales + batch + b))
    x1 = x0 + 1
    if FLIP:
        turned = tl.load(mirrored + b).to(tl.int32) != 0
        x0 = tl.where(turned, W - 1 - x0, x0)
        x1 = tl.where(turned, W - 1 - x1, x1)
    image = store + i * stride_n + c * stride_c
    upper = line(image, y0, x0, x1, low, high, stride_h, stride_w, inside & (above > 0.0))
    lower = line(image, y0 + 1, x0, x1, low, high, stride_h, stride_w, inside & (below > 0.0))
    grey = mixed(upper, lower, above, below)
    store_normalised(crops, b * (C * S * S) + e, grey, c, scale, shift, inside)


def launch(
    store: Tensor,
    boxes: Tensor,
    size: int,
    index: Tensor | None,
    mirrored: Tensor | None,
    scale: Tensor,
    shift: Tensor,
    dtype: torch.dtype,
    channels_last: bool,
) -> Tensor:
    """The crops; arguments as `replay_rrc` has checked them."""
    batch, channels = boxes.shape[1], store.shape[1]
    crops = empty_images(store, batch, size, size, dtype, channels_last)
    with torch.cuda.device_of(store):
        kernel[(batch, triton.cdiv(channels * size * size, BLOCK))](
            store, boxes if index is None else index.contiguous(), boxes.contiguous(), boxes[2:] / size,
            boxes if mirrored is None else mirrored.contiguous(), scale, shift, crops, batch, *store.stride(), channels,
            store.shape[3], size, INDEXED=index is not None, FLIP=mirrored is not None, CHANNELS_LAST=channels_last,
            BLOCK=BLOCK, **OPTIONS,
        )  # fmt: skip
    return crops
