"""Heads that grow as classes arrive: from features to logits.

Growing re-creates the parameters that have one row per class, so an optimiser is to be built after it.
"""

from __future__ import annotations

from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def cosine_logits(features: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """``scale * cos(features, weight)``, Hou et al. 2019 (LUCIR), section 3.2.

    Args:
        features: (N, F), floating point.
        weight: (C, F), one row per class.
        scale: (), the factor eta of the paper.

    Returns:
        (N, C), within [-scale, scale].
    """
    return scale * F.linear(F.normalize(features, dim=1), F.normalize(weight, dim=1))


class LinearHead(nn.Module):
    """``W x + b``.

    Args:
        features: length of a feature vector.
        outputs: classes to begin with, may be 0.
    """

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(0, features))
        self.bias = nn.Parameter(torch.empty(0))
        self.grow(outputs)

    @property
    def outputs(self) -> int:
        """Classes so far."""
        return len(self.weight)

    def grow(self, outputs: int) -> None:
        """Extend to ``outputs`` classes: old rows keep their bits, new ones are drawn as a fresh layer draws them.

        Raises:
            ValueError: there are more classes already.
        """
        fresh = _fresh_rows(self.weight, outputs)
        if fresh is not None:
            self.weight = _joined(self.weight, fresh.weight)
            self.bias = _joined(self.bias, fresh.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Logits (N, outputs) of features (N, F)."""
        return F.linear(features, self.weight, self.bias)


class CosineHead(nn.Module):
    """Cosine similarity to one direction per class, times a learnt scale that begins at 1 (`cosine_logits`).

    Args:
        features: length of a feature vector.
        outputs: classes to begin with, may be 0.
    """

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(0, features))
        self.scale = nn.Parameter(torch.ones(()))
        self.grow(outputs)

    @property
    def outputs(self) -> int:
        """Classes so far."""
        return len(self.weight)

    def grow(self, outputs: int) -> None:
        """Extend to ``outputs`` classes: old rows and the scale keep their bits, new rows are drawn as in `LinearHead`.

        Raises:
            ValueError: there are more classes already.
        """
        fresh = _fresh_rows(self.weight, outputs)
        if fresh is not None:
            self.weight = _joined(self.weight, fresh.weight)

    def forward(self, features: Tensor) -> Tensor:
        """Logits (N, outputs) of features (N, F)."""
        return cosine_logits(features, self.weight, self.scale)


Head: TypeAlias = LinearHead | CosineHead


def _fresh_rows(weight: Tensor, outputs: int) -> nn.Linear | None:
    """A new layer holding only the rows that ``weight`` (C, F) lacks; None where it lacks none."""
    old, features = weight.shape
    if outputs < old:
        raise ValueError(f"a head of {old} outputs cannot shrink to {outputs}")
    if outputs == old:
        return None
    return nn.Linear(features, outputs - old, device=weight.device, dtype=weight.dtype)


def _joined(old: Tensor, new: Tensor) -> nn.Parameter:
    return nn.Parameter(torch.cat((old.detach(), new.detach())))
