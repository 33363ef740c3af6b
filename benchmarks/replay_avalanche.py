"""Avalanche's replay, written as its documentation writes it: its datasets and transforms, its loop, its evaluator.

python benchmarks/replay_avalanche.py {tiny,slim,vit} FOLDER
"""

from __future__ import annotations

import contextlib
import io
import sys
import warnings
from pathlib import Path
from typing import Any

import networks
import torch
import workload
from avalanche.models import IncrementalClassifier
from avalanche.training.supervised import Replay
from avalanche_images import accuracy, benchmark
from probe import Probe


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


def main(network: str, folder: Path) -> workload.Result:
    warnings.simplefilter("ignore")  # its replay calls what it has deprecated itself
    probe = Probe()
    torch.manual_seed(workload.SEED)
    stream, learner = benchmark(workload.Data.load(folder)), strategy(network)
    return probe.measure(
        stream.train_stream,
        lambda experience: learner.train(experience, num_workers=0),
        lambda _: accuracy(learner.eval(stream.test_stream, num_workers=0)),
    )


if __name__ == "__main__":
    with contextlib.redirect_stdout(io.StringIO()):  # its progress bars
        measured = main(sys.argv[1], Path(sys.argv[2]))
    measured.print()
