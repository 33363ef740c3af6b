"""How many small runs a minute finishes when 1, 2, 4, ... go on side by side on one GPU, or on the CPU's cores.

    python benchmarks/packing.py
    python benchmarks/packing.py --device cuda --side-by-side 1 2 4 8 --epochs 5

Replay on digits through `executor=processes`, a thread in each process, on the first GPU where there is one. Every
number is tried in turn, each round in the opposite order of the one before, with processes of its own that have carried
out a run before the clock starts. Medians over rounds; the runs must end with the same bits however many there are.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import torch

from clbench.environment import cores
from clbench.executor import executors
from clbench.models.config import ModelConfig
from clbench.protocol import Study, evaluation_run
from clbench.record import Part, Selection
from clbench.run import Run
from clbench.scenario import scenarios
from clbench.strategy import strategies
from clbench.workers import visible_gpu


def runs(count: int, epochs: int, model: str, device: str, folder: Path) -> list[Run]:
    """So many runs, different in their seeds only."""
    _, scenario = scenarios.load("digits")
    _, config = strategies.load("replay")
    study = Study(scenario(), config(epochs=epochs), ModelConfig(model), device, folder)
    return [evaluation_run(study, "single", seed, Part.WHOLE, Selection(by="given")) for seed in range(count)]


def measure(side_by_side: int, count: int, epochs: int, model: str, device: str) -> tuple[float, list[str]]:
    """Seconds for all runs, and the digests of what they learnt."""
    _, config = executors.load("processes")
    with (
        tempfile.TemporaryDirectory() as folder,
        executors.build(config(workers=side_by_side, threads=1), count, device) as executor,
    ):
        for started in [executor.submit(run) for run in runs(side_by_side, 1, model, device, Path(folder, "first"))]:
            started.result()
        begun = time.perf_counter()
        futures = [executor.submit(run) for run in runs(count, epochs, model, device, Path(folder, "measured"))]
        digests = [future.result().state_digest for future in futures]
        return time.perf_counter() - begun, digests


def table(found: dict[int, list[float]], count: int) -> list[str]:
    """One line per number of runs side by side."""
    lines = [f"{'side by side':>12}{'runs / minute':>15}{'ratio':>8}{'spread':>8}"]
    first = median(found[min(found)])
    for side_by_side, seconds in sorted(found.items()):
        middle, spread = median(seconds), max(seconds) / min(seconds)
        lines.append(f"{side_by_side:12}{60 * count / middle:15.1f}{first / middle:8.2f}{spread:8.2f}")
    return lines


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    there = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if there else "cpu")
    parser.add_argument("--side-by-side", type=int, nargs="+", metavar="N", help="by default 1, 2, 4, ...")
    parser.add_argument("--runs", type=int, help="of each number and round; by default four times the greatest number")
    parser.add_argument("--epochs", type=int, default=10, help="of each experience")
    parser.add_argument("--model", default="small_cnn")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="few short runs, once: does it run at all?")
    asked = parser.parse_args(words)
    greatest = 8 if asked.device == "cuda" else cores()
    asked.side_by_side = asked.side_by_side or [2**n for n in range(greatest.bit_length())]
    asked.runs = asked.runs or 4 * max(asked.side_by_side)
    if asked.quick:
        asked.side_by_side, asked.runs, asked.epochs, asked.rounds = [1, 2], 2, 1, 1
    return asked


def main() -> None:
    """Measure and print."""
    os.environ |= visible_gpu(0, 1, os.environ.get("CUDA_VISIBLE_DEVICES", ""))  # before torch looks
    asked = arguments()
    torch.set_num_threads(1)
    found: dict[int, list[float]] = {number: [] for number in asked.side_by_side}
    wanted: list[str] = []
    for turn in range(asked.rounds):
        for number in asked.side_by_side[:: -1 if turn % 2 else 1]:
            seconds, digests = measure(number, asked.runs, asked.epochs, asked.model, asked.device)
            found[number].append(seconds)
            wanted = wanted or digests
            if digests != wanted:
                raise SystemExit(f"with {number} side by side the runs ended with other bits")
            print(f"{number} side by side: {seconds:.1f} s", file=sys.stderr, flush=True)
    name = torch.cuda.get_device_name() if asked.device == "cuda" else f"{cores()} cores"
    print(
        f"{asked.runs} runs of replay on digits, {asked.model}, {asked.epochs} epochs per experience, {name}; medians"
    )
    print("\n".join(table(found, asked.runs)))


if __name__ == "__main__":
    main()
