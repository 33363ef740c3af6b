"""The operations as `torch.ops.clbench`: a graph that torch.compile or torch.export takes holds each as one node.

The public functions call these where they are traced. Elsewhere they are called directly, without the 10 to 25
microseconds that torch's dispatcher takes for so many arguments. None has a gradient: images
are made of stored numbers, averages follow none.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

_LIBRARY = torch.library.Library("clbench", "FRAGMENT")


def register(schema: str, implementation: Callable[..., object], fake: Callable[..., object]) -> None:
    """Make an operation known to torch.

    Args:
        schema: its name and types, as `torch.library` writes them.
        implementation: on the CPU and on GPUs.
        fake: of the same arguments; makes outputs of the right shape, type and strides, and computes nothing.
    """
    name = schema.partition("(")[0]
    _LIBRARY.define(schema, tags=torch.Tag.pt2_compliant_tag)
    for key in ("CPU", "CUDA"):
        _LIBRARY.impl(name, implementation, key)
    torch.library.register_fake(f"clbench::{name}", fake, lib=_LIBRARY)


def empty_images(
    like: torch.Tensor, count: int, height: int, width: int, dtype: torch.dtype, channels_last: bool
) -> torch.Tensor:
    """Images (count, C, height, width) to be filled, with the channels and on the device of ``like`` (N, C, H, W)."""
    order = torch.channels_last if channels_last else torch.contiguous_format
    shape = (count, like.shape[1], height, width)
    return torch.empty(shape, dtype=dtype, device=like.device, memory_format=order)
