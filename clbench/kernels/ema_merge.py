"""Running averages of many tensors at once: ema_i <- ema_i + weight_i (tensor_i - ema_i), in place.

With one weight that is known before, torch's `_foreach_lerp_` reads and writes each number as seldom as can be, and
there is no kernel. Weights that were computed on the device, one per tensor, would cost torch three passes; the kernel
takes one, and neither waits for the device. Kernel and reference give the same bits: the difference, the product and
the sum are rounded apart in both, in the precision of the averages. What they follow may have less, as the weights of a
model in bfloat16: read where it lies, as copies at new addresses in each step would have to be told to the device.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from clbench.kernels.dispatch import by_triton
from clbench.kernels.library import register
from clbench.kernels.normalise import DTYPES
from clbench.space import require

ALIGNMENT = 16  # bytes, of what one thread moves at once


@torch.no_grad()
def ema_merge_(averages: Sequence[Tensor], tensors: Sequence[Tensor], weight: float | Tensor) -> None:
    """Take running averages one step further, in place.

    Args:
        averages: floating point, of any shapes.
        tensors: what the averages follow, one by one of the same shape and device, of the same floating-point type or
            one that it contains, in other memory.
        weight: of what is new: one number, or (T,) float, one for each tensor and on their device.

    Raises:
        ConfigError: the lists or the weights do not go together.
        IncompatibleError: `CLBENCH_KERNELS` asks for a kernel that cannot run.
    """
    if torch.compiler.is_compiling() and isinstance(weight, Tensor):
        _traced(averages, tensors, weight)
        return
    _check(averages, tensors, weight)
    averages, tensors = list(averages), list(tensors)
    if not averages:
        return
    if not isinstance(weight, Tensor):
        torch._foreach_lerp_(averages, [t.to(a.dtype) for t, a in zip(tensors, averages, strict=True)], weight)
    elif by_triton("ema_merge_", [*averages, *tensors, weight], _unsuitable(averages, tensors, weight)):
        from clbench.kernels.compiled import ema_merge as compiled

        compiled.launch(averages, tensors, weight)
    else:
        changes = torch._foreach_sub(tensors, averages)
        torch._foreach_mul_(changes, weight.unbind())
        torch._foreach_add_(averages, changes)


def _unsuitable(averages: Sequence[Tensor], tensors: Sequence[Tensor], weight: Tensor) -> str:
    """Why the kernel cannot take these; empty where it can."""
    both = [*averages, *tensors]
    if any(t.dtype != torch.float32 for t in (*averages, weight)):
        return "not float32"
    if any(t.dtype not in DTYPES for t in tensors):
        return "tensors not float32, bfloat16 or float16"
    if any(t.data_ptr() % ALIGNMENT for t in both):
        return "not aligned to 16 bytes"
    return "" if all(map(_alike, averages, tensors)) else "gaps, or another order in memory"


def _alike(one: Tensor, other: Tensor) -> bool:
    """Whether the numbers of both lie without gaps in the same order."""
    orders = (torch.contiguous_format, torch.channels_last) if one.dim() == 4 else (torch.contiguous_format,)
    return any(one.is_contiguous(memory_format=o) and other.is_contiguous(memory_format=o) for o in orders)


def _check(averages: Sequence[Tensor], tensors: Sequence[Tensor], weight: float | Tensor) -> None:
    count, pairs = len(averages), list(zip(averages, tensors, strict=False))
    require(len(tensors) == count, "ema_merge_: tensors", f"as many as the averages, {count}", len(tensors))
    for average, tensor in pairs:
        require(average.is_floating_point(), "ema_merge_: averages", "floating point", average.dtype)
        alike = average.shape == tensor.shape and average.device == tensor.device and tensor.is_floating_point()
        alike = alike and torch.promote_types(average.dtype, tensor.dtype) == average.dtype
        require(alike, "ema_merge_: a tensor", f"as its average, {_kind(average)}, or less precise", _kind(tensor))
        own = torch.compiler.is_compiling() or not average.numel() or average.data_ptr() != tensor.data_ptr()
        require(own, "ema_merge_: an average", "in memory of its own", "the tensor that it follows")
    if isinstance(weight, Tensor):
        require(weight.shape == (count,), "ema_merge_: weight", f"({count},), one per tensor", tuple(weight.shape))


def _kind(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')} on {tensor.device}"


register("ema_merge_(Tensor(a!)[] averages, Tensor[] tensors, Tensor weight) -> ()", ema_merge_, lambda *_: None)
_traced = torch.ops.clbench.ema_merge_.default
