"""What an edit costs as a stream of edits grows: seconds of learning, and memory, evaluation apart.

    python benchmarks/edits.py
    python benchmarks/edits.py --strategies ft_m locft_bf --edits 100 1000 10000 --batch 100

Each strategy makes so many edits of the embedded model, ``--batch`` at a time, in one process of its own for each
length. The world has 1,600 facts, so a longer stream comes round to them again, each round with other targets. The
slope of the logarithm of seconds over that of edits is 1 where an edit costs the same at any length of the stream;
that of seconds per edit, over the batches within the longest stream, is 0 there.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import fields, replace
from math import log
from statistics import linear_regression
from typing import Any

import torch

from clbench.engine import learn, measure
from clbench.environment import peak_bytes, reset_peak
from clbench.record import Setting
from clbench.scenario import Experience, Stream, scenarios
from clbench.space import starts
from clbench.strategy import Problem, strategies
from clbench.table import Source, Table

FACTS = 1600
ASKED = 200  # edits, the last ones, that are asked about at the end


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strategies", nargs="+", default=["ft_m", "locft_bf"])
    parser.add_argument("--edits", nargs="+", type=int, default=[100, 300, 1000, 3000, 10000])
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    print(f"{'strategy':14}{'edits':>8}{'seconds':>10}{'ms/edit':>9}{'peak MB':>9}{'last held':>11}{'asking s':>10}")
    for name in asked.strategies:
        totals = []
        for count in asked.edits:
            with spawn.Pool(1) as pool:  # so that a peak of memory is this run's own
                seconds, peak, held, asking = pool.apply(edited, (name, count, asked.batch, asked.device))
            totals.append(sum(seconds))
            print(
                f"{name:14}{count:8}{totals[-1]:10.2f}{1e3 * totals[-1] / count:9.2f}{peak / 1e6:9.0f}"
                f"{100 * held:9.1f} %{asking:10.2f}",
                flush=True,
            )
        report(name, asked.edits, totals, seconds)


def report(name: str, counts: Sequence[int], totals: Sequence[float], seconds: Sequence[float]) -> None:
    """Slopes on logarithmic axes."""
    if len(counts) > 1:
        print(f"{name}: total time grows as edits to the power {slope(counts, totals):.2f} ", end="")
    if len(seconds) > 2:
        within = slope(range(1, len(seconds) + 1), seconds)
        print(f"(an experience's own as its number to the power {within:.2f})")


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Of the logarithm of y over that of x, by least squares."""
    return linear_regression([log(value) for value in x], [log(value) for value in y]).slope


def edited(name: str, count: int, batch: int, device: str) -> tuple[list[float], int, float, float]:
    """Make so many edits.

    Returns:
        Seconds of each experience, bytes at the peak of learning, the share of the last edits that hold, and the
        seconds that asking about them took.
    """
    torch.set_num_threads(1)
    scenario, config = scenarios.load("edits")
    world = scenario(config(edits=FACTS, per_experience=None, unedited=0, asked=1, questions=1), device=device)
    rounds = [world.stream(seed) for seed in range(-(-count // FACTS))]
    stream = cut(rounds, count, batch, device)
    _, values = strategies.load(name)
    known = {field.name for field in fields(values)}
    begun = {key: value for key, value in starts(values, world.training).items() if key in known}
    fewer = scenario(config(edits=FACTS // 2, unedited=0, asked=1, questions=1), device=device)  # leaves facts alone
    problem = Problem(
        lambda: world.build_model(rounds[0]),
        stream.transform,
        Setting.EDITING,
        torch.device(device),
        0,
        pretrained=True,
        reference=fewer.stream(0).reference,
    )
    learner = strategies.build(values(**begun), problem)
    torch.optim.SGD([torch.zeros(1)], lr=1.0)  # has torch load what it loads late
    reset_peak(problem.device)
    seconds = [timed(learner, experience, device) for experience in stream.experiences]
    peak = peak_bytes(problem.device) or 0
    asking = time.perf_counter()
    held = share(learner, rounds[-1], stream)
    return seconds, peak, held, time.perf_counter() - asking


def cut(rounds: Sequence[Stream], count: int, batch: int, device: str) -> Stream:
    """Streams of all facts one after another as one, up to so many edits, a batch of them at a time."""
    tables = [stream.experiences[0].train for stream in rounds]
    columns = {n: torch.cat([table.column(n) for table in tables])[:count] for n in tables[0].source.columns}
    source = Source(columns, torch.device(device))
    parts = torch.arange(count).split(batch)
    experiences = tuple(
        Experience(i, f"edits to {int(rows[-1]) + 1}", Table(source, rows), Table(source, rows), (i,), i + 1)
        for i, rows in enumerate(parts)
    )
    return replace(rounds[0], experiences=experiences)


def timed(learner: Any, experience: Experience, device: str) -> float:
    """Seconds of one experience: the processor's own, or the clock's where there is a GPU to wait for."""
    clock = time.perf_counter if device == "cuda" else time.process_time
    begun = clock()
    learn(learner, experience)
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - begun


def share(learner: Any, last: Stream, stream: Stream) -> float:
    """Of the last edits that were made, how many hold."""
    source = stream.experiences[0].train.source
    rows = torch.arange(max(0, source.length - ASKED, source.length - 1 - (source.length - 1) % FACTS), source.length)
    numbered = Source({**source.columns, "example": torch.arange(source.length) % FACTS}, source.device)
    table = Table(numbered, rows)
    asked = Experience(0, "the last", table, table, (0,), 1)
    (found,) = measure(learner, replace(stream, experiences=(asked,), answers=last.answers), 1)
    return found.correct / found.total


if __name__ == "__main__":
    main()
