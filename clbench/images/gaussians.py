"""Class Gaussians: what is kept of a class's features in place of its examples.

A class keeps its mean and a root R of its covariance, R^T R = Sigma, found once. Then mean + z R + 0.01 e with standard
normal z and e is distributed as N(mean, Sigma + 1e-4 I), however few examples there were, and without a factorisation
that can fail. R has as many rows as the class had examples, at most as many as a feature has numbers.
"""

from __future__ import annotations

from enum import Enum

import torch
from torch import Tensor

JITTER = 1e-4  # added to every variance


class Covariance(Enum):
    """What is kept of a class's covariance."""

    FULL = "full"
    DIAGONAL = "diagonal"  # variances only


class ClassGaussians:
    """Means and covariances of classes, in the order they were added.

    Attributes:
        mean: (C, F) float.
        root: (C, R, F) float, rows of zeros where a class has fewer; (C, F), standard deviations, where diagonal.
    """

    def __init__(self, kind: Covariance) -> None:
        self.kind = kind
        self.mean = torch.empty(0, 0)
        self.root = torch.empty(0, 0, 0) if kind is Covariance.FULL else torch.empty(0, 0)

    def __len__(self) -> int:
        return len(self.mean)

    def add(self, features: Tensor) -> None:
        """One more class, from its features (N, F); a single example leaves the covariance at 1e-4 I."""
        mean = features.sum(0) / max(len(features), 1)
        centred = features - mean
        freedom = max(len(features) - 1, 1)
        if self.kind is Covariance.DIAGONAL:
            root = (centred.square().sum(0) / freedom).sqrt()[None]
        else:
            rows = torch.linalg.qr(centred, mode="r")[1] if len(centred) > centred.shape[1] else centred
            root = (rows / freedom**0.5)[None]
        self.mean = torch.cat((self.mean.to(mean).view(len(self.mean), len(mean)), mean[None]))
        self.root = root if len(self.mean) == 1 else _stacked(self.root, root)

    def draw(self, count: int, generator: torch.Generator, mean: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Samples of every class.

        Args:
            count: per class.
            generator: on the CPU or on the tensors' device.
            mean: (C, F), in place of the classes' own.

        Returns:
            (C * count, F) float, and their classes (C * count,) int64.
        """
        classes, width = self.mean.shape
        device = self.mean.device

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, device=generator.device, dtype=self.mean.dtype).to(device)

        noise = JITTER**0.5 * normal(classes, count, width)
        if self.kind is Covariance.DIAGONAL:
            spread = self.root[:, None] * normal(classes, count, width)
        else:
            spread = normal(classes, count, self.root.shape[1]) @ self.root
        samples = (self.mean if mean is None else mean)[:, None] + spread + noise
        labels = torch.arange(classes, device=device).repeat_interleave(count)
        return samples.flatten(0, 1), labels

    def tensors(self) -> dict[str, Tensor]:
        """What to keep, by name."""
        return {"gaussian_mean": self.mean, "gaussian_root": self.root}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take back what `tensors` gave; without them, no class."""
        if "gaussian_mean" in tensors:
            self.mean, self.root = tensors["gaussian_mean"], tensors["gaussian_root"]


def _stacked(old: Tensor, new: Tensor) -> Tensor:
    """(C, R, F) and (1, S, F) as (C + 1, max(R, S), F), filled up with rows of zeros; two-dimensional ones joined."""
    if old.ndim == 3 and old.shape[1] != new.shape[1]:
        rows = max(old.shape[1], new.shape[1])
        old, new = (torch.nn.functional.pad(t, (0, 0, 0, rows - t.shape[1])) for t in (old, new))
    return torch.cat((old, new))
