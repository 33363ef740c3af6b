"""Avalanche's replay, written as its documentation writes it: its datasets and transforms, its loop, its evaluator.

python benchmarks/replay_avalanche.py {tiny,slim,vit} FOLDER
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any

import networks
import torch
import workload
from avalanche.models import IncrementalClassifier
from avalanche.training.supervised import Replay
from avalanche_images import carry_out


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


if __name__ == "__main__":
    carry_out(Path(sys.argv[2]), functools.partial(strategy, sys.argv[1]))
