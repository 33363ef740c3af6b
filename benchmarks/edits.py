"""What an edit costs as a stream of edits grows: seconds of learning, and memory, evaluation apart.

    python benchmarks/edits.py
    python benchmarks/edits.py --strategies ft_m locft_bf --edits 100 1000 10000 --batch 100 --csv cost.csv

Each strategy makes so many edits of the embedded model, ``--batch`` at a time, in one process of its own for each
length. The world has 1,600 facts, so a longer stream comes round to them again, each round with other targets. Beside
seconds stand passes, each a text that goes through the network once (its way back with it): methods that train until
an edit is learnt may need more of them as the model wears out. What is left of the cost per edit is the machine's.

The slope of the logarithm of seconds over that of edits is 1 where an edit costs the same at any length of the stream,
that of passes likewise; that of seconds per pass is 0 where nothing but the method's own steps makes edits dearer.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from math import log
from pathlib import Path
from statistics import linear_regression
from typing import Any

import torch

from clbench.engine import learn
from clbench.environment import peak_bytes, reset_peak
from clbench.examination import measure
from clbench.record import Setting
from clbench.scenario import Experience, Stream, scenarios
from clbench.space import starts
from clbench.strategy import Problem, strategies
from clbench.table import Source, Table

FACTS = 1600
ASKED = 200  # edits, the last ones, that are asked about at the end


@dataclass(frozen=True)
class Cost:
    """One stream's cost.

    Attributes:
        seconds: of learning, each experience's own.
        passes: texts through the network, each experience's own.
        peak_mb: most memory while learning.
        held: share of the last edits that hold at the end.
        asking: seconds that asking about them took.
    """

    seconds: list[float]
    passes: list[int]
    peak_mb: float
    held: float
    asking: float


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    strategy: str
    edits: int
    seconds: str
    ms_per_edit: str
    passes_per_edit: str
    us_per_pass: str
    peak_mb: str
    last_held_percent: str


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strategies", nargs="+", default=["ft_m", "locft_bf"])
    parser.add_argument("--edits", nargs="+", type=int, default=[100, 300, 1000, 3000, 10000])
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--csv", type=Path, help="table to add the lines to, as they come")
    asked = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    print("".join(f"{field.name:>18}" for field in fields(Row)))
    for name in asked.strategies:
        costs = []
        for count in asked.edits:
            with spawn.Pool(1) as pool:  # so that a peak of memory is this run's own
                costs.append(pool.apply(edited, (name, count, asked.batch, asked.device)))
            row = row_of(name, count, costs[-1])
            print("".join(f"{value:>18}" for value in asdict(row).values()), flush=True)
            if asked.csv:
                add(asked.csv, row)
        report(name, asked.edits, costs)


def row_of(name: str, count: int, cost: Cost) -> Row:
    """What is told of one stream."""
    seconds, passes = sum(cost.seconds), sum(cost.passes)
    each = (seconds, 1e3 * seconds / count, passes / count, 1e6 * seconds / passes, cost.peak_mb, 100 * cost.held)
    digits = (2, 2, 1, 0, 0, 1)
    return Row(name, count, *(f"{value:.{places}f}" for value, places in zip(each, digits, strict=True)))


def add(path: Path, row: Row) -> None:
    """Add one line to a table, which begins with the names of its columns."""
    begun = path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
        if not begun:
            writer.writeheader()
        writer.writerow(asdict(row))


def report(name: str, counts: Sequence[int], costs: Sequence[Cost]) -> None:
    """Slopes on logarithmic axes, over streams and within the longest."""
    if len(counts) > 1:
        totals, passes = [sum(cost.seconds) for cost in costs], [sum(cost.passes) for cost in costs]
        told(f"{name}, with edits", counts, totals, passes)
    last = costs[-1]
    if len(last.seconds) > 2:
        told(f"{name}, with an experience's number", range(1, len(last.seconds) + 1), last.seconds, last.passes)


def told(what: str, x: Sequence[float], seconds: Sequence[float], passes: Sequence[float]) -> None:
    """Print with which powers of x seconds, passes and their quotient grow; passes are counted from 1."""
    counted = [max(1, number) for number in passes]
    each = [one / many for one, many in zip(seconds, counted, strict=True)]
    powers = (slope(x, seconds), slope(x, counted), slope(x, each))
    print("{}: seconds to the power {:.2f}, passes {:.2f}, seconds per pass {:.2f}".format(what, *powers), flush=True)


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Of the logarithm of y over that of x, by least squares."""
    return linear_regression([log(value) for value in x], [log(value) for value in y]).slope


def edited(name: str, count: int, batch: int, device: str) -> Cost:
    """Make so many edits."""
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
    learner: Any = strategies.build(values(**begun), problem)
    torch.optim.SGD([torch.zeros(1)], lr=1.0)  # has torch load what it loads late
    seen: list[int] = []
    hook = learner.model.network.register_forward_pre_hook(
        lambda _, taken, named: seen.append(len(named["input_ids"])), with_kwargs=True
    )
    seconds, passes = [], []
    reset_peak(problem.device)
    for experience in stream.experiences:
        seconds.append(timed(learner, experience, device))
        passes.append(sum(seen))
        seen.clear()
    hook.remove()
    peak = (peak_bytes(problem.device) or 0) / 1e6
    asking = time.perf_counter()
    held = share(learner, rounds[-1], stream)
    return Cost(seconds, passes, peak, held, time.perf_counter() - asking)


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
