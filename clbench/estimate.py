"""How long a run will learn, from slices of its first experiences.

Two learners of the run's own kind learn 64 examples of each of the first three experiences, one for one epoch and one
for two. The difference is the price of an epoch, the rest is paid once per experience (statistics, alignment, ...). The
first experience has a price of its own: some methods train in it alone, others have nothing to remind themselves of.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace

import torch

from clbench.engine import learn
from clbench.errors import DivergedError
from clbench.opening import build_strategy
from clbench.run import Run
from clbench.scenario import Experience, Stream
from clbench.strategy import strategies

EXAMPLES = 64  # of each experience


def estimate_seconds(run: Run, stream: Stream) -> float:
    """Roughly how long a run will learn its stream. Also the earliest moment at which all of it has been put together.

    Raises:
        ClbenchError: the run cannot be put together.
    """
    slices = replace(stream, experiences=tuple(_slice(experience) for experience in stream.experiences[:3]))
    epochs = getattr(run.strategy, "epochs", None)
    once, twice = (_seconds(run, slices, passes) for passes in ((1, 2) if epochs else (None, None)))
    epoch = max(twice[-1] - once[-1], 0.0) if epochs and len(once) > 1 else 0.0
    fixed = max(once[-1] - epoch, 0.0) if len(once) > 1 else 0.0
    # The first learner's first slice pays for what is loaded late, so the second learner's is taken.
    first = max(twice[0] - fixed, 0.0) / (2 if epochs else 1)
    workload = strategies.load(strategies.name_of(run.strategy))[0].workload

    def visited(stream: Stream, experiences: int) -> int:
        return workload(replace(stream, experiences=stream.experiences[:experiences]))

    whole, count = len(stream.experiences), len(slices.experiences)
    beginning = first * visited(stream, 1) / visited(slices, 1)
    rest = epoch * (visited(stream, whole) - visited(stream, 1)) / (visited(slices, count) - visited(slices, count - 1))
    shares = sum(len(e.train) for e in stream.experiences) / len(slices.experiences[-1].train)
    return (epochs or 1) * (beginning + rest) + fixed * shares


def _slice(experience: Experience) -> Experience:
    # spread over the rows, which may lie class by class
    count = min(EXAMPLES, len(experience.train))
    rows = torch.arange(count) * len(experience.train) // max(count, 1)
    return replace(experience, train=experience.train.select(rows))


def _seconds(run: Run, stream: Stream, epochs: int | None) -> list[float]:
    """Seconds that each experience takes a fresh learner."""
    config = run.strategy if epochs is None else replace(run.strategy, epochs=epochs)
    strategy, seconds = build_strategy(replace(run, strategy=config), stream), []
    for experience in stream.experiences:
        begun = time.perf_counter()
        with contextlib.suppress(DivergedError):
            learn(strategy, experience)
        seconds.append(time.perf_counter() - begun)
    return seconds
