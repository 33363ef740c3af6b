"""Avalanche's replay, written as its documentation writes it: its datasets and transforms, its loop, its evaluator.

python benchmarks/peer_avalanche.py NETWORK DATA
"""

from __future__ import annotations

import contextlib
import io
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import networks
import torch
import workload
from avalanche.benchmarks import nc_benchmark
from avalanche.models import IncrementalClassifier
from avalanche.training.supervised import Replay
from PIL import Image
from probe import Probe
from torchvision import transforms


class Pictures(torch.utils.data.Dataset[Any]):
    """Images in memory, handed out one by one as PIL images: what torchvision's CIFAR classes are."""

    def __init__(self, images: workload.Images, labels: workload.Labels) -> None:
        self.images = images.transpose(0, 2, 3, 1).copy()
        self.targets = labels.tolist()

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.fromarray(self.images[index]), self.targets[index]

    def __len__(self) -> int:
        return len(self.targets)


def benchmark(data: workload.Data) -> Any:
    """The stream of experiences."""
    normalise = [transforms.ToTensor(), transforms.Normalize(workload.MEAN, workload.STD)]
    augment = [transforms.RandomCrop(32, padding=workload.PADDING), transforms.RandomHorizontalFlip()]
    return nc_benchmark(
        Pictures(data.train_images, data.train_labels),
        Pictures(data.test_images, data.test_labels),
        n_experiences=workload.EXPERIENCES,
        task_labels=False,
        fixed_class_order=workload.class_order(),
        class_ids_from_zero_from_first_exp=True,
        train_transform=transforms.Compose(augment + normalise),
        eval_transform=transforms.Compose(normalise),
    )


def strategy(network: str) -> Any:
    """Its replay, with its default evaluator, and its own head that rules unseen classes out, as the other arms do."""
    backbone, features = networks.build_backbone(network)
    model = torch.nn.Sequential(backbone, IncrementalClassifier(features, workload.CLASSES))
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=workload.LEARNING_RATE,
        momentum=workload.MOMENTUM,
        weight_decay=workload.WEIGHT_DECAY,
        fused=True,
    )
    return Replay(
        model=model,
        optimizer=optimizer,
        criterion=torch.nn.CrossEntropyLoss(),
        mem_size=workload.MEMORY,
        train_mb_size=workload.BATCH,
        train_epochs=1,
        eval_mb_size=workload.EVALUATION_BATCH,
    )


def main(network: str, data: Path) -> workload.Result:
    warnings.simplefilter("ignore")  # its replay calls what it has deprecated itself
    probe = Probe()
    torch.manual_seed(workload.SEED)
    stream, learner = benchmark(workload.Data.load(data)), strategy(network)
    training = evaluation = 0.0
    metrics: dict[str, float] = {}
    for experience in stream.train_stream:
        begun = time.process_time()
        learner.train(experience, num_workers=0)
        learnt = time.process_time()
        metrics = learner.eval(stream.test_stream, num_workers=0)
        training += learnt - begun
        evaluation += time.process_time() - learnt
    return probe.result(training, evaluation, 100 * metrics["Top1_Acc_Stream/eval_phase/test_stream/Task000"])


if __name__ == "__main__":
    with contextlib.redirect_stdout(io.StringIO()):  # its progress bars
        measured = main(sys.argv[1], Path(sys.argv[2]))
    measured.print()
