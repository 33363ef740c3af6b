"""Random streams by name: what one part draws never changes what another draws.

Nothing in clbench draws from the global random state. Code that cannot be handed a generator (initialisers, dropout)
runs inside `isolated`, which seeds the global state and puts it back.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import Iterator

import numpy as np
import torch


def derive(seed: int, *names: str | int) -> int:
    """A 63-bit seed for the stream that ``names`` name, e.g. ``derive(seed, "augment", experience)``."""
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def generator(seed: int, *names: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator of its own for the stream that ``names`` name."""
    return torch.Generator(device=device).manual_seed(derive(seed, *names))


@contextlib.contextmanager
def isolated(seed: int, *names: str | int) -> Iterator[None]:
    """Seed Python's, numpy's and torch's global states for the block, and restore them after it."""
    value = derive(seed, *names)
    python_state, numpy_state = random.getstate(), np.random.get_state()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    try:
        with torch.random.fork_rng(devices=devices):
            # torch.manual_seed would also note the call stack, for a GPU that may be used later; that takes 0.2 ms.
            torch.default_generator.manual_seed(value)
            if devices:
                torch.cuda.manual_seed_all(value)
            random.seed(value)
            np.random.seed(value % 2**32)
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
