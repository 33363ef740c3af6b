"""What the kernels that make images share."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def coordinates(e, C, H, W, CHANNELS_LAST: tl.constexpr):
    """Channel, row and column of the pixels that lie at places e of an image.

    Pixels are counted as they lie in the output, so that each thread stores 16 bytes at once.
    """
    if CHANNELS_LAST:
        c = e % C
        x = (e // C) % W
        y = e // (C * W)
    else:
        x = e % W
        y = (e // W) % H
        c = e // (H * W)
    return c, y, x


@triton.jit
def store_normalised(images, place, grey, c, scale, shift, inside):
    """Write grey values, normalised."""
    factor = tl.load(scale + c, mask=inside, other=0.0)
    summand = tl.load(shift + c, mask=inside, other=0.0)
    tl.store(images + place, (grey * factor + summand).to(images.dtype.element_ty), mask=inside)
