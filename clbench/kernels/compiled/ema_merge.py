"""The kernel of `clbench.kernels.ema_merge`: one launch for all tensors, whose addresses it reads from a table."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from clbench.kernels.compiled import OPTIONS

CHUNK = 16384  # numbers of one program
BLOCK = 1024  # numbers at a time


@triton.jit
def kernel(addresses, sizes, tensor_of, place_of, weights, count, CHUNK: tl.constexpr, BLOCK: tl.constexpr):
    """Program c merges chunk ``place_of[c]`` of tensor ``tensor_of[c]``."""
    c = tl.program_id(0)
    t = tl.load(tensor_of + c).to(tl.int64)
    start = tl.load(place_of + c).to(tl.int64) * CHUNK
    size = tl.load(sizes + t)
    # Said of the pointers after the cast; said before it, loads and stores would be of 4 bytes each.
    average = tl.multiple_of(tl.load(addresses + t).to(tl.pointer_type(tl.float32)), 16)
    tensor = tl.multiple_of(tl.load(addresses + count + t).to(tl.pointer_type(tl.float32)), 16)
    weight = tl.load(weights + t)
    if start + CHUNK <= size:  # a whole chunk: without masks, loads and stores are 16 bytes wide
        for k in range(0, CHUNK, BLOCK):
            i = start + k + tl.arange(0, BLOCK)
            old = tl.load(average + i)
            tl.store(average + i, old + weight * (tl.load(tensor + i) - old))
    else:
        for k in range(0, CHUNK, BLOCK):
            i = start + k + tl.arange(0, BLOCK)
            old = tl.load(average + i, mask=i < size, other=0.0)
            new = old + weight * (tl.load(tensor + i, mask=i < size, other=0.0) - old)
            tl.store(average + i, new, mask=i < size)


def launch(averages: Sequence[Tensor], tensors: Sequence[Tensor], weights: Tensor) -> None:
    """Merge; arguments as `ema_merge_` has checked them."""
    addresses = tuple(t.data_ptr() for t in (*averages, *tensors))
    table = _table(addresses, tuple(t.numel() for t in averages), weights.device)
    with torch.cuda.device_of(weights):
        kernel[(len(table[-1]),)](
            *table, weights.contiguous(), len(averages), CHUNK=CHUNK, BLOCK=BLOCK,
            **OPTIONS,
        )  # fmt: skip


@functools.lru_cache(maxsize=8)
def _table(
    addresses: tuple[int, ...], sizes: tuple[int, ...], device: torch.device
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Addresses, sizes, and each chunk's tensor and place in it; copied to the device where an address is new."""
    chunks = [(t, place) for t, size in enumerate(sizes) for place in range(triton.cdiv(size, CHUNK))]
    tensor_of, place_of = torch.tensor(chunks, dtype=torch.int32).view(-1, 2).T.contiguous().to(device)
    return torch.tensor(addresses).to(device), torch.tensor(sizes).to(device), tensor_of, place_of
