"""The kernel of `clbench.kernels.replay_gather`: one launch per batch, its draws included."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import triton
import triton.language as tl
from torch import Tensor

from clbench.kernels.compiled import OPTIONS
from clbench.kernels.compiled.pixels import coordinates, store_normalised
from clbench.kernels.compiled.random import bounded, permuted, philox
from clbench.kernels.draws import Draws, Given, Order, Seeded
from clbench.kernels.library import empty_images
from clbench.kernels.philox import AUGMENT, PERMUTE, ROUNDS, SAMPLE, half_bits

BLOCK = 1024  # pixels, or logits, of one program
GIVEN, ALL, IID, EPOCH = range(4)


@triton.jit
def row_of(rows, b, seed, step, low, high, count, batch, ROWS: tl.constexpr, BITS: tl.constexpr,
           SAMPLE: tl.constexpr, PERMUTE: tl.constexpr, ROUNDS: tl.constexpr):  # fmt: skip
    """Row of the store for place b of the batch; ROWS is one of GIVEN, ALL, IID, EPOCH."""
    place = b
    if ROWS == 0:
        place = tl.load(rows + b).to(tl.int64)
    elif ROWS == 2:
        word, other, _c, _d = philox(seed, b, low, high, tl.full((), SAMPLE, tl.uint32))
        place = bounded(word, other, count)
    elif ROWS == 3:
        drawn = step * batch + b
        place = permuted(drawn % count, count, seed, drawn // count, BITS, PERMUTE, ROUNDS)
    return place


@triton.jit
def window_of(offsets, mirrored, b, seed, low, high, batch, PADDING: tl.constexpr, SEEDED: tl.constexpr,
              CROP: tl.constexpr, FLIP: tl.constexpr, AUGMENT: tl.constexpr):  # fmt: skip
    """Pixels down and right from the stored image's corner, and whether it is mirrored, for place b of the batch."""
    down = tl.full((), 0, tl.int32)
    right = tl.full((), 0, tl.int32)
    flip = tl.full((), 0, tl.int32)
    if SEEDED:
        SIDE: tl.constexpr = 2 * PADDING + 1
        one, two, three, _d = philox(seed, b, low, high, tl.full((), AUGMENT, tl.uint32))
        down = ((one.to(tl.uint64) * SIDE) >> 32).to(tl.int32) - PADDING
        right = ((two.to(tl.uint64) * SIDE) >> 32).to(tl.int32) - PADDING
        if FLIP:
            flip = (three >> 31).to(tl.int32)
    else:
        if CROP:
            down = tl.load(offsets + b).to(tl.int32) - PADDING
            right = tl.load(offsets + batch + b).to(tl.int32) - PADDING
        if FLIP:
            flip = tl.load(mirrored + b).to(tl.int32)
    return down, right, flip


@triton.jit(do_not_specialize=["seed", "step", "count", "batch"])
def kernel(store, labels, logits, rows, offsets, mirrored, moving, scale, shift, images, out_labels, out_logits, index,
           seed, step, count, batch, classes, stride_n, stride_c, stride_h, stride_w, C, H, W, image_blocks,
           PADDING: tl.constexpr, ROWS: tl.constexpr, MAPPED: tl.constexpr, BITS: tl.constexpr,
           SEEDED: tl.constexpr, MOVING: tl.constexpr, CROP: tl.constexpr, FLIP: tl.constexpr,
           LABELS: tl.constexpr, LOGITS: tl.constexpr, CHANNELS_LAST: tl.constexpr, BLOCK: tl.constexpr,
           SAMPLE: tl.constexpr, AUGMENT: tl.constexpr, PERMUTE: tl.constexpr, ROUNDS: tl.constexpr):  # fmt: skip
    """Program (b, t) makes block t of image b; the blocks after the image's are of its logits."""
    b = tl.program_id(0).to(tl.int64)
    t = tl.program_id(1)
    if MOVING:
        step = tl.load(moving)
    step = step.to(tl.int64)
    low = (step & 0xFFFFFFFF).to(tl.uint32)
    high = ((step >> 32) & 0xFFFFFFFF).to(tl.uint32)
    i = row_of(rows, b, seed, step, low, high, count, batch, ROWS, BITS, SAMPLE, PERMUTE, ROUNDS)
    if MAPPED:
        i = tl.load(rows + i).to(tl.int64)
    if t == 0:
        tl.store(index + b, i)
        if LABELS:
            tl.store(out_labels + b, tl.load(labels + i))
    if t >= image_blocks:
        if LOGITS:
            k = (t - image_blocks) * BLOCK + tl.arange(0, BLOCK)
            tl.store(
                out_logits + b * classes + k, tl.load(logits + i * classes + k, mask=k < classes), mask=k < classes
            )
    else:
        down, right, flip = window_of(
            offsets, mirrored, b, seed, low, high, batch, PADDING, SEEDED, CROP, FLIP, AUGMENT
        )
        e = t * BLOCK + tl.arange(0, BLOCK)
        inside = e < C * H * W
        c, y, x = coordinates(e, C, H, W, CHANNELS_LAST)
        from_x = tl.where(flip != 0, W - 1 - x, x) + right
        from_y = y + down
        seen = inside & (from_x >= 0) & (from_x < W) & (from_y >= 0) & (from_y < H)
        place = i * stride_n + c * stride_c + from_y * stride_h + from_x * stride_w
        grey = tl.load(store + place, mask=seen, other=0).to(tl.float32)
        store_normalised(images, b * (C * H * W) + e, grey, c, scale, shift, inside)


def launch(
    store: Tensor,
    draws: Draws,
    scale: Tensor,
    shift: Tensor,
    padding: int,
    labels: Tensor | None,
    logits: Tensor | None,
    dtype: torch.dtype,
    channels_last: bool,
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """Images, row numbers, labels and logits of one batch; arguments as `replay_gather` has checked them."""
    count, channels, height, width = store.shape
    seeded, given = isinstance(draws, Seeded), draws if isinstance(draws, Given) else Given()
    length = count if given.rows is None else len(given.rows)
    flip = given.mirrored is not None
    asked = draws if isinstance(draws, Seeded) else Seeded(length, seed=0, step=0, flip=flip, pool=given.rows)
    step, moving = (0, asked.step) if isinstance(asked.step, Tensor) else (asked.step, None)
    choices = count if asked.pool is None else len(asked.pool)
    images = empty_images(store, asked.batch, height, width, dtype, channels_last)
    index = torch.empty(asked.batch, dtype=torch.int64, device=store.device)
    out_labels, out_logits = (t if t is None else t.new_empty(asked.batch, *t.shape[1:]) for t in (labels, logits))
    classes, blocks = 0 if logits is None else logits.shape[1], triton.cdiv(channels * height * width, BLOCK)
    maybe = (labels, logits, asked.pool, given.offsets, given.mirrored, moving)
    with torch.cuda.device_of(store):
        kernel[(asked.batch, blocks + triton.cdiv(classes, BLOCK))](
            store, *_pointers(maybe, index), scale, shift, images, *_pointers((out_labels, out_logits), index), index,
            asked.seed, step, choices, asked.batch, classes, *store.stride(), channels, height, width, blocks,
            PADDING=padding, ROWS=_rows(draws), MAPPED=seeded and asked.pool is not None, BITS=half_bits(choices),
            SEEDED=seeded, MOVING=moving is not None, CROP=padding > 0 and (seeded or given.offsets is not None),
            FLIP=asked.flip, LABELS=labels is not None, LOGITS=logits is not None, CHANNELS_LAST=channels_last,
            BLOCK=BLOCK, SAMPLE=SAMPLE, AUGMENT=AUGMENT, PERMUTE=PERMUTE, ROUNDS=ROUNDS,
            **OPTIONS,
        )  # fmt: skip
    return images, index if seeded or given.rows is not None else None, out_labels, out_logits


def _pointers(tensors: Iterable[Tensor | None], some: Tensor) -> list[Tensor]:
    """The tensors, gapless, with any other in place of those that no branch reads."""
    return [some if tensor is None else tensor.contiguous() for tensor in tensors]


def _rows(draws: Draws) -> int:
    if isinstance(draws, Given):
        return ALL if draws.rows is None else GIVEN
    return IID if draws.order is Order.IID else EPOCH
