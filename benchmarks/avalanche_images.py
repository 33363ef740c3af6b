"""What Avalanche's arms over images share: its datasets, transforms and stream, as its documentation writes them."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import workload
from avalanche.benchmarks import nc_benchmark
from PIL import Image
from probe import Probe
from torchvision import transforms


class Pictures(torch.utils.data.Dataset[Any]):
    """Images in memory, handed out one by one as PIL images: what torchvision's CIFAR classes are.

    Args:
        images: (N, H, W, 3), or (N, H, W) where they are grey; uint8.
        labels: (N,) int64.
    """

    def __init__(self, images: workload.Images, labels: workload.Labels) -> None:
        self.images, self.targets = np.ascontiguousarray(images), labels.tolist()

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.fromarray(self.images[index]), self.targets[index]

    def __len__(self) -> int:
        return len(self.targets)


def benchmark(data: workload.Data) -> Any:
    """The stream of experiences."""
    normalise = [transforms.ToTensor(), transforms.Normalize(workload.MEAN, workload.STD)]
    augment = [transforms.RandomCrop(32, padding=workload.PADDING), transforms.RandomHorizontalFlip()]
    return nc_benchmark(
        Pictures(data.train_images.transpose(0, 2, 3, 1), data.train_labels),
        Pictures(data.test_images.transpose(0, 2, 3, 1), data.test_labels),
        n_experiences=workload.EXPERIENCES,
        task_labels=False,
        fixed_class_order=workload.class_order(),
        class_ids_from_zero_from_first_exp=True,
        train_transform=transforms.Compose(augment + normalise),
        eval_transform=transforms.Compose(normalise),
    )


def carry_out(folder: Path, strategy: Callable[[], Any]) -> None:
    """Have a strategy learn the stream and print the arm's result, without Avalanche's warnings and progress bars."""
    warnings.simplefilter("ignore")  # its replay calls what it has deprecated itself
    with contextlib.redirect_stdout(io.StringIO()):
        probe = Probe()
        torch.manual_seed(workload.SEED)
        stream, learner = benchmark(workload.Data.load(folder)), strategy()
        measured = probe.measure(
            stream.train_stream,
            lambda experience: learner.train(experience, num_workers=0),
            lambda _: _accuracy(learner.eval(stream.test_stream, num_workers=0)),
        )
    measured.print()


def _accuracy(metrics: dict[str, float]) -> float:
    """Percent of all test images that were answered rightly, as its evaluator calls it."""
    return 100 * metrics["Top1_Acc_Stream/eval_phase/test_stream/Task000"]
