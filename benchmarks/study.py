"""How long a whole two-phase study takes: clbench with one worker and with one per core, and Avalanche run by run.

    python benchmarks/study.py
    python benchmarks/study.py --trials 2 --tuning-seeds 1 --seeds 2 --repeats 5

Replay of 100 exemplars on digits: draws of learning rate and weight decay are run on one half of the classes, each
under the tuning seeds; the best by average incremental accuracy is run on the other half, once per seed. By default 8
draws, 2 tuning seeds and 5 seeds: 21 runs. The arms:

clbench-one         ``clbench run`` with one worker process.
clbench-cores       The same with a worker per core; the same bits.
avalanche-apart     A process per run, one after another, as its users' scripts do.
avalanche-together  All runs one after another in one process.

Equal: images, halves, experiences of 2, 2 and 1 classes, network, optimiser, epochs, batches, exemplars, the number of
draws and their ranges, seeds, how the winner is chosen, one torch thread per process. Not equal: the draws themselves
(Optuna's and numpy's); Avalanche shares its exemplars out among experiences and keeps its momentum from one to the
next, as its Replay does, clbench shares them out among classes and begins anew; clbench writes records and checkpoints
and prints its tables, Avalanche writes nothing; clbench tests the classes seen so far, Avalanche all of its half's.

Wall seconds and processor seconds from the first process's start to the last one's end, imports included; every repeat
begins with an empty output folder. The arms take turns, each turn in the opposite order of the one before; medians.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean, median
from subprocess import PIPE
from typing import Any, NamedTuple

import numpy as np
from process import ENVIRONMENT

from clbench import metrics, record
from clbench.environment import cores
from clbench.record import Phase

EPOCHS, CAPACITY = 10, 100
RATES, DECAYS = (1e-3, 0.5), (1e-5, 1e-2)  # what is drawn from, uniformly in the logarithm: clbench's own ranges
RUN = [sys.executable, str(Path(__file__).with_name("study_avalanche.py"))]
SURROUNDINGS = os.environ | ENVIRONMENT


class Found(NamedTuple):
    """One study: what it took, and its accuracy over all classes at the end, percent, mean over seeds."""

    wall: float
    cpu: float
    accuracy: float


def clbench(asked: argparse.Namespace, workers: int) -> float:
    """The study by one command; its accuracy."""
    with tempfile.TemporaryDirectory() as output:
        words = ["scenario=digits", "strategy=replay", "strategy.schedule=constant", f"strategy.epochs={EPOCHS}"]
        words += [f"strategy.memory.capacity={CAPACITY}", f"protocol.trials={asked.trials}"]
        words += [f"protocol.tuning_seeds={tuning_seeds(asked)}", f"protocol.seeds={list(range(asked.seeds))}"]
        words += [f"executor.workers={workers}", "executor.threads=1", f"output={output}"]
        command = [sys.executable, "-m", "clbench", "run", *(word.replace(" ", "") for word in words)]
        subprocess.run(command, check=True, env=SURROUNDINGS, stdout=subprocess.DEVNULL)
        found = [one for one in record.find([Path(output)]) if one.phase is Phase.EVALUATION]
    if len(found) != asked.seeds:
        raise SystemExit(f"clbench left {len(found)} reported runs, expected {asked.seeds}")
    return mean(metrics.last_accuracy(one) for one in found)


def apart(run: dict[str, Any]) -> dict[str, float]:
    """One run of Avalanche in a process of its own; its accuracies."""
    done = subprocess.run(RUN, check=True, env=SURROUNDINGS, input=json.dumps(run) + "\n", text=True, stdout=PIPE)
    return dict(json.loads(done.stdout))


def avalanche(asked: argparse.Namespace, carry_out: Callable[[dict[str, Any]], dict[str, float]]) -> float:
    """The study as a script around Avalanche; its accuracy."""
    draws = np.random.default_rng(0)
    usual = {"lr": 0.05, "weight_decay": 1e-4}
    drawn = [{"lr": _drawn(draws, RATES), "weight_decay": _drawn(draws, DECAYS)} for _ in range(1, asked.trials)]
    common = {"epochs": EPOCHS, "capacity": CAPACITY}

    def score(fields: dict[str, float]) -> float:
        runs = [carry_out({**common, **fields, "half": 0, "seed": seed}) for seed in tuning_seeds(asked)]
        return mean(run["incremental"] for run in runs)

    best = max([usual, *drawn], key=score)
    reported = [carry_out({**common, **best, "half": 1, "seed": seed}) for seed in range(asked.seeds)]
    return mean(run["last"] for run in reported)


def together(asked: argparse.Namespace) -> float:
    """The same in one process, which is told of the runs one by one."""
    with subprocess.Popen(RUN, env=SURROUNDINGS, stdin=PIPE, stdout=PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        told, said = process.stdin, process.stdout

        def carry_out(run: dict[str, Any]) -> dict[str, float]:
            print(json.dumps(run), file=told, flush=True)
            return dict(json.loads(said.readline()))

        accuracy = avalanche(asked, carry_out)
        told.close()
    return accuracy


def tuning_seeds(asked: argparse.Namespace) -> list[int]:
    """As many as are asked for, none of them a seed that is reported."""
    return list(range(100, 100 + asked.tuning_seeds))


def _drawn(draws: np.random.Generator, bounds: tuple[float, float]) -> float:
    return float(np.exp(draws.uniform(*np.log(bounds))))


def timed(study: Callable[[], float]) -> Found:
    """What a study took, in all processes that it started and that have ended."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    accuracy = study()
    wall, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Found(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, accuracy)


def table(found: Mapping[str, Sequence[Found]]) -> str:
    """One line per arm: medians, and how often the first arm goes into it."""
    lines = [f"{'':20}{'wall s':>10}{'CPU s':>10}{'accuracy':>10}{'wall / first':>14}{'CPU / first':>14}"]
    first: Found | None = None
    for name, repeats in found.items():
        one = Found(*(median(values) for values in zip(*repeats, strict=True)))
        first = first or one
        ratios = one.wall / first.wall, one.cpu / first.cpu
        lines.append(f"{name:20}{one.wall:10.1f}{one.cpu:10.1f}{one.accuracy:10.1f}{ratios[0]:14.2f}{ratios[1]:14.2f}")
    return "\n".join(lines)


ARMS: dict[str, Callable[[argparse.Namespace], float]] = {
    "clbench-one": lambda asked: clbench(asked, 1),
    "clbench-cores": lambda asked: clbench(asked, cores()),
    "avalanche-apart": lambda asked: avalanche(asked, apart),
    "avalanche-together": together,
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, usual in (("repeats", 3), ("trials", 8), ("tuning-seeds", 2), ("seeds", 5)):
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument(
        "--quick", action="store_true", help="2 draws, 1 tuning seed, 1 seed, once: does it run at all?"
    )
    asked = parser.parse_args()
    if asked.quick:
        asked.repeats, asked.trials, asked.tuning_seeds, asked.seeds = 1, 2, 1, 1
    return asked


def main() -> None:
    """Measure and print."""
    asked = arguments()
    found: dict[str, list[Found]] = {name: [] for name in asked.arms}
    for repeat in range(asked.repeats):
        for name in asked.arms if repeat % 2 == 0 else reversed(asked.arms):
            found[name].append(timed(functools.partial(ARMS[name], asked)))
            print(f"{name} {repeat + 1}/{asked.repeats}: {found[name][-1]}", file=sys.stderr, flush=True)
    runs = asked.trials * asked.tuning_seeds + asked.seeds
    print(f"a study of {runs} runs, {cores()} cores, medians of {asked.repeats}\n{table(found)}")


if __name__ == "__main__":
    main()
