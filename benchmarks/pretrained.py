"""What the shortcuts of the pre-trained field are worth: each against the plain way, side by side in one process.

    python benchmarks/pretrained.py
    python benchmarks/pretrained.py --repeats 9 --device cuda

retrieval   MOS answers 256 images after T tasks: the sets of adapters that are visited, against all T + 1 passes as the
            released code makes them. The answers must be the same (near ties apart; they are counted).
gaussians   One epoch of samples of 50 classes for the alignment, against a new MultivariateNormal per class.
features    Features of the training images from the cache, against computing them.

The two ways alternate; medians of process seconds (CPU) or seconds (GPU), and their ratio, are shown. Backbone: the
small vision transformer (0.8 M parameters, 32x32 pixels), adapters and means at random: the visits are as many as an
untrained head makes, about as many as the most.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import MultivariateNormal

from clbench import seeding
from clbench.augment import ImageTransform
from clbench.images import features
from clbench.images.gaussians import JITTER, ClassGaussians, Covariance
from clbench.models.adapters import AdapterWeights
from clbench.models.classifier import build_classifier
from clbench.models.config import ModelConfig
from clbench.record import Setting
from clbench.scenario import Stream, class_stream
from clbench.strategy import Problem, strategies
from clbench.table import Source

WIDTH, CLASSES_EACH = 128, 5
SHAPE = (3, 32, 32)
TRANSFORM = ImageTransform((0.5,) * 3, (0.25,) * 3)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device(asked.device)
    print(f"{'':34}{'plain':>12}{'clbench':>12}{'ratio':>9}")
    with torch.no_grad():
        for tasks in (10, 20):
            retrieval(tasks, device, asked.repeats)
        gaussians(device, asked.repeats)
    cached(device, asked.repeats)


def show(title: str, plain: Callable[[], Any], ours: Callable[[], Any], repeats: int, device: torch.device) -> None:
    """Time the two by turns and print one line."""
    seconds: dict[str, list[float]] = {"plain": [], "ours": []}
    plain(), ours()
    for repeat in range(repeats):
        pair = [("plain", plain), ("ours", ours)]
        for name, way in pair if repeat % 2 else pair[::-1]:
            begun = clock(device)
            way()
            seconds[name].append(clock(device) - begun)
    slow, quick = median(seconds["plain"]), median(seconds["ours"])
    print(f"{title:34}{1e3 * slow:9.1f} ms{1e3 * quick:9.1f} ms{slow / quick:8.2f}x")


def clock(device: torch.device) -> float:
    """Seconds that the process has computed, on the GPU seconds that have passed."""
    if device.type != "cuda":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def problem(device: torch.device) -> Problem:
    """One model, its weights drawn from a fixed seed."""

    def model() -> Any:
        with seeding.isolated(0, "initialise"):
            return build_classifier(ModelConfig("small_vit", width=WIDTH), SHAPE, "small_vit").to(device)

    return Problem(model, TRANSFORM, Setting.CLASS_INCREMENTAL, device, 0)


def retrieval(tasks: int, device: torch.device, repeats: int) -> None:
    """MOS after ``tasks`` tasks, asked both ways."""
    _, config = strategies.load("mos")
    learner: Any = strategies.build(config(), problem(device))
    classes = tasks * CLASSES_EACH
    with seeding.isolated(1):
        learner.model.grow(classes)
        learner.model.to(device)
        learner.head.weight.mul_(50)
        shapes = [part.shape for part in learner.adapted.adapters]
        parts = [torch.randn(s[0], tasks, *s[1:], device=device) * 0.3 for s in shapes]
        learner.stored = AdapterWeights(*parts)
        images = torch.randint(256, (256, *SHAPE), dtype=torch.uint8).to(device)
        learner.auxiliary["means"] = torch.randn(classes, WIDTH, device=device)
        learner.auxiliary["task_of_class"] = torch.arange(tasks, device=device).repeat_interleave(CLASSES_EACH)
    batch = {"image": images}
    expected, close = asked_of_all(learner, batch)
    differ = int(((learner.predict(batch) != expected) & ~close).sum())
    moves = sum(int((a != b).sum()) for a, b in pairwise(learner.answer(batch).tasks))
    ways = (lambda: asked_of_all(learner, batch), lambda: learner.predict(batch))
    show(f"retrieval, T = {tasks}", *ways, repeats, device)
    print(f"    {differ} of 256 answers differ ({int(close.sum())} near ties left out); {moves} changes of task")


def asked_of_all(learner: Any, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Answers from T + 1 passes over every image, and which of them are near ties."""
    images = learner.problem.transform.evaluate(batch)["image"]
    learner.model.eval()
    sets = [AdapterWeights(*(part[:, task] for part in learner.stored)) for task in range(learner.tasks)]

    def passed(weights: AdapterWeights) -> Tensor:
        found: Tensor = learner.adapted.finish(learner.adapted.begin(images), weights)
        return found

    near = F.normalize(passed(sets[0]), dim=1) @ F.normalize(learner.auxiliary["means"], dim=1).T
    logits = torch.stack([learner.head(passed(weights)) for weights in sets], 1)
    named = learner.task_of_class[logits.argmax(2)]
    rows = torch.arange(len(images), device=images.device)
    task = learner.task_of_class[near.argmax(1)]
    for _ in range(3):
        task = named[rows, task]
    scores = logits[rows, task].softmax(1) + (learner.tasks * near).softmax(1)
    best = scores.topk(2, 1).values
    return scores.argmax(1), best[:, 0] - best[:, 1] < 1e-4


def gaussians(device: torch.device, repeats: int) -> None:
    """240 samples of each of 50 classes, of the small transformer's width and of ViT-B's."""
    for width in (WIDTH, 768):
        ours = ClassGaussians(Covariance.FULL)
        for _ in range(50):
            ours.add(torch.randn(400, width, device=device))
        full = [root.T @ root + JITTER * torch.eye(width, device=device) for root in ours.root]
        draws = torch.Generator(device=device).manual_seed(0)

        def plain(means: Tensor = ours.mean, covariances: list[Tensor] = full) -> None:
            for mean, covariance in zip(means, covariances, strict=True):
                MultivariateNormal(mean, covariance).sample((240,))

        def quick(kept: ClassGaussians = ours, draws: torch.Generator = draws) -> None:
            kept.draw(240, draws)

        show(f"gaussians, {width} numbers", plain, quick, repeats, device)


def cached(device: torch.device, repeats: int) -> None:
    """Features of 1,024 images."""
    with tempfile.TemporaryDirectory() as folder, seeding.isolated(2):
        features.cache_folder = lambda: Path(folder)
        stream = noise(device)
        model = problem(device).model()

        def plain() -> None:
            model.eval()
            with torch.no_grad():
                for batch in stream.experiences[0].train.batches(256):
                    model.features(stream.transform.evaluate(batch))

        def quick() -> None:
            made = features.with_features(stream, model, device, images=False)
            made.experiences[0].train.column("feature")

        show("features of 1,024 images", plain, quick, repeats, device)


def noise(device: torch.device) -> Stream:
    """Two experiences of 1,024 random images each."""
    columns = {
        "image": torch.randint(256, (2048, *SHAPE), dtype=torch.uint8),
        "label": torch.arange(2048) % 4,
    }
    train, test = Source(columns, device), Source({name: c[:8] for name, c in columns.items()}, device)
    return class_stream(train, test, range(4), [2, 2], 0, Setting.CLASS_INCREMENTAL, TRANSFORM, "noise")


if __name__ == "__main__":
    main()
