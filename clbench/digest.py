"""What two learners, or two sets of weights, are compared by."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor


def state_digest(state: Any) -> str:
    """sha256 over a learner's state: names, shapes and bytes of all tensors, and all other values."""
    total = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, Tensor):
            total.update(f"{value.dtype} {tuple(value.shape)}".encode())
            total.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        elif isinstance(value, dict):
            for key in sorted(value):
                total.update(f"{key}:".encode())
                add(value[key])
        elif isinstance(value, list | tuple):
            for item in value:
                add(item)
        else:
            total.update(repr(value).encode())

    add(state)
    return total.hexdigest()
