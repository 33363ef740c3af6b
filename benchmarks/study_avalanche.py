"""Avalanche's replay on one half of the digits, for each line of JSON that comes: what a run of a study is.

    echo '{"half": 0, "seed": 0, "lr": 0.05, "weight_decay": 1e-4, "epochs": 10, "capacity": 100}' \
      | python benchmarks/study_avalanche.py
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from typing import Any

import numpy as np
import torch
from avalanche.benchmarks import nc_benchmark
from avalanche.models import IncrementalClassifier
from avalanche.training.supervised import Replay
from avalanche_images import Pictures
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torchvision import transforms

from clbench.models.small_cnn import SmallCNN

CLASSES, SIZES = 5, {0: 2, 1: 2, 2: 1}  # of a half, and of its experiences
BATCH, TESTS, MOMENTUM = 32, 256, 0.9


def benchmark(half: int, seed: int) -> Any:
    """The stream of a half's experiences; images, split and order of classes are clbench's."""
    digits = load_digits()
    images, labels = (digits.images * 15).astype(np.uint8), digits.target - CLASSES * half
    parts = train_test_split(range(len(labels)), test_size=360, stratify=digits.target, random_state=0)
    rows = [[row for row in part if 0 <= labels[row] < CLASSES] for part in parts]
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(0.286, 0.353)])
    train, test = (Pictures(images[part], labels[part]) for part in rows)
    return nc_benchmark(
        train,
        test,
        n_experiences=len(SIZES),
        task_labels=False,
        per_exp_classes=SIZES,
        fixed_class_order=[int(c) for c in np.random.RandomState(seed).permutation(CLASSES)],
        class_ids_from_zero_from_first_exp=True,
        train_transform=transform,
        eval_transform=transform,
    )


def strategy(run: dict[str, Any]) -> Any:
    """Its replay, with its default evaluator and its own head, which rules unseen classes out."""
    backbone = SmallCNN(1)
    model = torch.nn.Sequential(backbone, IncrementalClassifier(backbone.features_out, CLASSES))
    fields = {"lr": run["lr"], "weight_decay": run["weight_decay"], "momentum": MOMENTUM}
    return Replay(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), **fields, fused=True),
        criterion=torch.nn.CrossEntropyLoss(),
        mem_size=run["capacity"],
        train_mb_size=BATCH,
        train_epochs=run["epochs"],
        eval_mb_size=TESTS,
    )


def carry_out(run: dict[str, Any]) -> dict[str, float]:
    """Accuracy in percent over the classes seen so far: mean over the course, and at the end."""
    torch.manual_seed(run["seed"])
    stream, learner = benchmark(run["half"], run["seed"]), strategy(run)
    sizes = [len(experience.dataset) for experience in stream.test_stream]
    course = []
    for index, experience in enumerate(stream.train_stream):
        learner.train(experience, num_workers=0)
        measured = learner.eval(stream.test_stream, num_workers=0)
        names = [f"Top1_Acc_Exp/eval_phase/test_stream/Task000/Exp{i:03}" for i in range(index + 1)]
        course.append(100 * float(np.average([measured[name] for name in names], weights=sizes[: index + 1])))
    return {"incremental": float(np.mean(course)), "last": course[-1]}


def main() -> None:
    """Answer each line with a line."""
    for line in sys.stdin:
        silent = io.StringIO()  # for its progress bars, and its warnings of what it calls itself
        with contextlib.redirect_stdout(silent), contextlib.redirect_stderr(silent):
            found = carry_out(json.loads(line))
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
