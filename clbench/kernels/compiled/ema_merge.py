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
TYPES = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}


@triton.jit
def kernel(addresses, sizes, tensor_of, place_of, weights, count, TYPE: tl.constexpr, CHUNK: tl.constexpr,
           BLOCK: tl.constexpr):  # fmt: skip
    """Program c merges chunk ``place_of[c]`` of tensor ``tensor_of[c]``, which holds numbers of ``TYPE``."""
    c = tl.program_id(0)
    t = tl.load(tensor_of + c).to(tl.int64)
    start = tl.load(place_of + c).to(tl.int64) * CHUNK
    size = tl.load(sizes + t)
    # Said of the pointers after the cast; said before it, loads and stores would be of 4 bytes each.
    average = tl.multiple_of(tl.load(addresses + t).to(tl.pointer_type(tl.float32)), 16)
    tensor = tl.multiple_of(tl.load(addresses + count + t).to(tl.pointer_type(TYPE)), 16)
    weight = tl.load(weights + t)
    if start + CHUNK <= size:  # a whole chunk: without masks, loads and stores are 16 bytes wide
        for k in range(0, CHUNK, BLOCK):
            i = start + k + tl.arange(0, BLOCK)
            old = tl.load(average + i)
            tl.store(average + i, old + weight * (tl.load(tensor + i).to(tl.float32) - old))
    else:
        for k in range(0, CHUNK, BLOCK):
            i = start + k + tl.arange(0, BLOCK)
            old = tl.load(average + i, mask=i < size, other=0.0)
            new = old + weight * (tl.load(tensor + i, mask=i < size, other=0.0).to(tl.float32) - old)
            tl.store(average + i, new, mask=i < size)


def launch(averages: Sequence[Tensor], tensors: Sequence[Tensor], weights: Tensor) -> None:
    """Merge; arguments as `ema_merge_` has checked them."""
    addresses = tuple(t.data_ptr() for t in (*averages, *tensors))
    sizes, types = tuple(t.numel() for t in averages), tuple(t.dtype for t in tensors)
    table, chunks = _tables(addresses, sizes, types, weights.device)
    with torch.cuda.device_of(weights):
        for type_, (tensor_of, place_of) in chunks.items():
            kernel[(len(tensor_of),)](
                *table, tensor_of, place_of, weights.contiguous(), len(averages), TYPE=TYPES[type_], CHUNK=CHUNK,
                BLOCK=BLOCK, **OPTIONS,
            )  # fmt: skip


@functools.lru_cache(maxsize=8)
def _tables(
    addresses: tuple[int, ...], sizes: tuple[int, ...], types: tuple[torch.dtype, ...], device: torch.device
) -> tuple[tuple[Tensor, Tensor], dict[torch.dtype, Tensor]]:
    """Addresses and sizes; by type, each chunk's tensor and place in it. Copied to the device where an address is new.

    One type is one launch; the tensors of a model have one, or two where norms are kept in float32.
    """
    chunks: dict[torch.dtype, list[tuple[int, int]]] = {}
    for t, (size, type_) in enumerate(zip(sizes, types, strict=True)):
        if size:
            chunks.setdefault(type_, []).extend((t, place) for place in range(triton.cdiv(size, CHUNK)))
    there = {type_: torch.tensor(c, dtype=torch.int32).T.contiguous().to(device) for type_, c in chunks.items()}
    return (torch.tensor(addresses).to(device), torch.tensor(sizes).to(device)), there
