"""How the cost of replay grows with what a study makes larger: classes, experiences, exemplars.

    python benchmarks/scaling.py
    python benchmarks/scaling.py --only memory --device cuda

Random images (3, 32, 32) and the small network, so that next to nothing of a step is the network's. Each line is a run
of its own: seconds of the processor per training step, per end of an experience (exemplars chosen anew) and per test
image, and the ratios to the first line of its table. What does not grow has ratios near 1.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from itertools import pairwise
from statistics import median
from typing import NamedTuple

import torch

from clbench import seeding
from clbench.augment import ImageTransform
from clbench.examination import measure
from clbench.finetune import Schedule
from clbench.memory import MemoryConfig
from clbench.models.classifier import build_classifier
from clbench.models.config import ModelConfig
from clbench.record import Setting
from clbench.scenario import Stream, class_stream
from clbench.strategy import Problem, Strategy, strategies
from clbench.table import Source

IMAGES = 20_000
TESTS = 2_000
EPOCH = {"epochs": 1, "batch_size": 32, "lr": 0.01, "schedule": Schedule.CONSTANT}


class Size(NamedTuple):
    """What a run is made of."""

    classes: int = 20
    experiences: int = 5
    memory: int = 200


TABLES = {
    "classes": [Size(classes=n) for n in (20, 100, 1000)],
    "experiences": [Size(classes=100, experiences=n) for n in (5, 20, 100)],
    "memory": [Size(memory=n) for n in (200, 2_000, 20_000)],
}


class Cost(NamedTuple):
    """Microseconds of the processor, or of the wall clock where a GPU does the work."""

    step: float
    end: float  # of an experience
    tested: float  # per image


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=sorted(TABLES))
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    costs(Size(), asked.device)  # torch loads late what it first needs here
    for name in [asked.only] if asked.only else TABLES:
        print(f"{name:>12}{'us per step':>14}{'ratio':>8}{'us per end':>14}{'ratio':>8}{'us per test':>14}{'ratio':>8}")
        first: Cost | None = None
        for size in TABLES[name]:
            cost = costs(size, asked.device)
            first = first or cost
            cells = "".join(f"{value:14.1f}{value / base:8.2f}" for value, base in zip(cost, first, strict=True))
            print(f"{getattr(size, name):12,}{cells}", flush=True)


def costs(size: Size, device: str) -> Cost:
    """Of one stream, learnt and then asked once; medians over experiences, the first left out."""
    stream = stream_of(size, device)
    learner = replay(stream, size, device)
    learnt = list(learn(learner, stream))[1:]
    start = clock(device)
    measure(learner, stream, size.experiences)
    tested = (clock(device) - start) / TESTS
    steps, ends = zip(*learnt, strict=True)
    return Cost(1e6 * median(steps), 1e6 * median(ends), 1e6 * tested)


def learn(learner: Strategy, stream: Stream) -> Iterator[tuple[float, float]]:
    """Of each experience, seconds per step and seconds of its end."""
    device = str(learner.problem.device)
    for experience in stream.experiences:
        steps: list[float] = []
        after = learner.after_step  # type: ignore[attr-defined]

        def stamped(inner: object = after, steps: list[float] = steps) -> None:
            inner()  # type: ignore[operator]
            steps.append(clock(device))

        learner.after_step = stamped  # type: ignore[attr-defined]
        with seeding.isolated(0, "learn", experience.index):
            learner.learn(experience)
        end = clock(device) - steps[-1]
        learner.after_step = after  # type: ignore[attr-defined]
        yield median(b - a for a, b in pairwise(steps)), end


def clock(device: str) -> float:
    """Seconds of this process, or of the wall clock once a GPU has done what it was told."""
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def stream_of(size: Size, device: str) -> Stream:
    """Noise in classes of equal size, cut into experiences of equal numbers of classes."""
    draws = torch.Generator().manual_seed(0)

    def source(count: int) -> Source:
        images = torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8, generator=draws)
        return Source({"image": images, "label": torch.arange(count) % size.classes}, device)

    each = [size.classes // size.experiences] * size.experiences
    transform = ImageTransform((0.5,) * 3, (0.25,) * 3, padding=4, flip=True)
    classes = range(size.classes)
    return class_stream(source(IMAGES), source(TESTS), classes, each, 0, Setting.CLASS_INCREMENTAL, transform, "noise")


def replay(stream: Stream, size: Size, device: str) -> Strategy:
    """Replay of so many exemplars, 32 of them beside 32 new images in a step."""
    config = strategies.load("replay")[1](**EPOCH, memory=MemoryConfig(capacity=size.memory, batch_size=32))
    model = ModelConfig(name="small_cnn")
    where = torch.device(device)
    with seeding.isolated(0, "initialise"):
        problem = Problem(
            lambda: build_classifier(model, (3, 32, 32), "small_cnn").to(where),
            *(stream.transform, stream.setting, where, 0),
        )
        return strategies.build(config, problem)


if __name__ == "__main__":
    main()
