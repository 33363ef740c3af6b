"""Which path an operation takes: its torch reference, or its Triton kernel.

The environment variable ``CLBENCH_KERNELS`` says what is wanted.

- ``auto``, the default: the kernel where all tensors are on a GPU of compute capability 8.0 or later, Triton is
  installed and the operation's own rules hold; else the reference.
- ``torch``: the reference.
- ``triton``: the kernel, or an error that says why not.

A fallback is logged once per operation and reason, and every path that was taken can be told afterwards (`paths`), so
that a run's record says how its numbers came about. With ``TRITON_INTERPRET=1``, Triton's own switch, kernels that are
asked for run in its interpreter on the CPU; that is for tests.
"""

from __future__ import annotations

import functools
import importlib.metadata
import logging
import os
from collections.abc import Sequence
from enum import Enum

import torch
from torch import Tensor

from clbench.errors import ConfigError, IncompatibleError

VARIABLE = "CLBENCH_KERNELS"
CAPABILITY = (8, 0)  # the first with bfloat16 and asynchronous copies; nothing older is tested

_taken: dict[str, set[str]] = {}


class Wanted(Enum):
    """What the environment variable may say."""

    AUTO = "auto"
    TORCH = "torch"
    TRITON = "triton"


def wanted() -> Wanted:
    """What ``CLBENCH_KERNELS`` asks for.

    Raises:
        ConfigError: none of the three words.
    """
    word = os.environ.get(VARIABLE, Wanted.AUTO.value)
    try:
        return Wanted(word)
    except ValueError:
        words = ", ".join(one.value for one in Wanted)
        raise ConfigError(f"{VARIABLE} must be one of {words}, got {word!r}") from None


def by_triton(operation: str, tensors: Sequence[Tensor], unsuitable: str = "") -> bool:
    """Decide on one call's path, and note it.

    Args:
        operation: its public name.
        tensors: all that the kernel would read or write.
        unsuitable: why the operation's own rules exclude the kernel; empty where they do not.

    Raises:
        IncompatibleError: the kernel is asked for and cannot run.
        ConfigError: ``CLBENCH_KERNELS`` says something else than it may.
    """
    asked = wanted()
    reason = "asked for" if asked is Wanted.TORCH else _obstacle(asked, tensors) or unsuitable
    if reason and asked is Wanted.TRITON:
        raise IncompatibleError(f"{operation} has no Triton path here: {reason}; set {VARIABLE}=auto or torch")
    path = f"torch: {reason}" if reason else f"triton {_version()}"
    seen = _taken.setdefault(operation, set())
    if path not in seen:
        seen.add(path)
        _log(operation, path)
    return not reason


def begin() -> None:
    """Forget which paths were taken: another run begins."""
    _taken.clear()


def paths() -> dict[str, list[str]]:
    """By operation, the paths taken since `begin`: ``triton`` and its version, or ``torch:`` and the reason."""
    return {operation: sorted(taken) for operation, taken in sorted(_taken.items())}


def _obstacle(asked: Wanted, tensors: Sequence[Tensor]) -> str:
    """Why no kernel can run on these tensors; empty where one can."""
    if asked is Wanted.TRITON and os.environ.get("TRITON_INTERPRET") == "1":
        return "" if _version() else "Triton is not installed"
    for tensor in tensors:
        if tensor.device.type != "cuda":
            return f"on {tensor.device.type}"
        if tensor.device != tensors[0].device:
            return "on several devices"
    if _capability(tensors[0].device) < CAPABILITY:
        return "GPU older than compute capability {}.{}".format(*CAPABILITY)
    return "" if _version() else "Triton is not installed"


@functools.cache
def _version() -> str:
    """Of Triton; empty where it is not installed."""
    try:
        return importlib.metadata.version("triton")
    except importlib.metadata.PackageNotFoundError:
        return ""


@functools.cache
def _capability(device: torch.device) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device)


@functools.cache
def _log(operation: str, path: str) -> None:
    """Said once per process."""
    logging.getLogger(__name__).info("%s takes the path %s", operation, path)
