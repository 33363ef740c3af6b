"""Benchmarks as users of Avalanche write them, for tests; each function is named on the command line."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image


class Pictures(torch.utils.data.Dataset[Any]):
    """Digits as torchvision's data sets hand pictures out: PIL images, one by one, and ``targets``."""

    def __init__(self, rows: slice) -> None:
        from sklearn.datasets import load_digits

        found = load_digits()
        self.images = (found.images[rows] * 15).astype(np.uint8)
        self.targets = [int(label) for label in found.target[rows]]

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return Image.fromarray(self.images[index]), self.targets[index]


def digits(n_experiences: int, *, seed: int | None = None, task_labels: bool = False, **more: Any) -> Any:
    """The digits, cut by Avalanche, with a transform that normalises."""
    from avalanche.benchmarks import nc_benchmark
    from torchvision import transforms

    normalise = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.3,), (0.4,))])
    return nc_benchmark(
        Pictures(slice(1200)),
        Pictures(slice(1200, None)),
        n_experiences,
        task_labels,
        seed=seed,
        train_transform=normalise,
        eval_transform=normalise,
        **more,
    )


def normalised(n_experiences: int) -> Any:
    """Values that have been normalised for good."""
    from avalanche.benchmarks import nc_benchmark
    from avalanche.benchmarks.utils import as_classification_dataset

    labels = torch.arange(20) % 4
    data = torch.utils.data.TensorDataset(torch.linspace(-1, 1, 20 * 16).view(20, 1, 4, 4), labels)
    data.targets = labels.tolist()  # type: ignore[attr-defined]
    made = as_classification_dataset(data)
    return nc_benchmark(made, made, n_experiences, task_labels=False)


def broken() -> Any:
    """Data that cannot be had."""
    raise OSError("no route\nto host")


def nothing() -> Any:
    """No benchmark."""
    return 3


def needy(folder: str) -> Any:
    """Needs an argument."""
    return folder


NUMBER = 3
