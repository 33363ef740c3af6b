"""What the loop costs: clbench against a bare torch loop and Avalanche on three workloads, half fine-tuning and full.

    python benchmarks/loop.py
    python benchmarks/loop.py --arms clbench floor --workloads tiny --repeats 9

tiny, slim   Replay on images with a small CNN and a slim ResNet-18 (`workload.py`).
vit          A small vision transformer, for half fine-tuning's steps against full fine-tuning's.
adapters     Adapters on a frozen vision transformer, class-incremental (`adapters.py`).
texts        A small Llama tuned on instructions (`texts.py`).

Every arm is a fresh process with one torch thread; the arms alternate (A B C, C B A, ...) and medians are shown.
"Whole process" is the user and system time of that process and its children, imports included. All arms of a workload
train the same network by the same rule, as the final accuracies show: torch's fused optimisers, batches of the same
size (replay: 32 new and 32 replayed images), tests in batches of 256. Avalanche tests all classes of images each time,
as its documentation does, the others those seen so far.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from process import ENVIRONMENT, HERE, Measured, start

ARMS = ("clbench", "floor", "avalanche")
HALVES = ("hft", "full")


@dataclass(frozen=True)
class Workload:
    """What is learnt: by which scripts, and how much of it.

    Attributes:
        kind: the beginning of the floor's and Avalanche's script, ``KIND_floor.py`` and ``KIND_avalanche.py``.
        arms: which say something on it.
        repeats: processes per arm.
        data: the script that writes its data.
        share: of the examples that this script can write.
    """

    kind: str
    arms: tuple[str, ...]
    repeats: int
    data: str = "workload.py"
    share: float = 1.0

    def script(self, arm: str) -> str:
        """The program of an arm."""
        return f"{self.kind}_{arm}.py" if arm in ("floor", "avalanche") else "clbench_arm.py"


WORKLOADS = {
    "tiny": Workload("replay", ARMS, 5),
    "slim": Workload("replay", ARMS + HALVES, 3),
    "vit": Workload("replay", HALVES, 3),
    "adapters": Workload("adapters", ARMS, 3, share=0.4),
    "texts": Workload("texts", ARMS, 5, data="texts.py"),
}
"""By name; half fine-tuning needs a network of several alike blocks."""

TARGETS = {"training": 1.05, "evaluation": 1.10, "whole process": 1.15}
"""Greatest wanted ratios of clbench to the floor."""

WHOLE = 0.5
"""Greatest wanted ratio of clbench's whole process to Avalanche's."""


def prepare(name: str, share: float, folder: Path) -> None:
    """Write a workload's data, ``share`` of its usual number."""
    asked = WORKLOADS[name]
    command = [sys.executable, str(HERE / asked.data), str(folder), str(asked.share * share)]
    subprocess.run(command, check=True, env=os.environ | ENVIRONMENT)


def measure(name: str, arms: Sequence[str], repeats: int, folder: Path) -> list[Measured]:
    """Every arm ``repeats`` times, in turns, each turn in the opposite order of the one before."""
    measured = []
    for repeat in range(repeats):
        for arm in arms if repeat % 2 == 0 else reversed(arms):
            measured.append(start(WORKLOADS[name].script(arm), name, folder, arm))
            print(f"{name} {arm} {repeat + 1}/{repeats}", file=sys.stderr, flush=True)
    return measured


def medians(measured: Sequence[Measured], arm: str) -> dict[str, float]:
    """Each quantity's median over the processes of one arm."""
    mine = [m for m in measured if m.arm == arm]
    results = [m.result for m in mine]
    return {
        "training": median(r.training_seconds for r in results),
        "evaluation": median(r.evaluation_seconds for r in results),
        "whole process": median(m.process_seconds for m in mine),
        "start-up": median(r.start_up_seconds for r in results),
        "peak MB": median(m.peak_bytes for m in mine) / 1e6,
        "steps": median(r.steps for r in results),
        "accuracy": median(r.accuracy for r in results),
        "ms / step": median(1000 * r.training_seconds / r.steps for r in results),
        "gradient kB": median(r.gradient_bytes for r in results) / 1e3,
        "optimiser kB": median(r.state_bytes for r in results) / 1e3,
    }


def table(name: str, found: dict[str, dict[str, float]]) -> str:
    """One line per arm."""
    columns = list(next(iter(found.values())))
    lines = [f"{name}: medians; CPU seconds unless said", " " * 10 + "".join(f"{c:>14}" for c in columns)]
    for arm, values in found.items():
        cells = (f"{v:14.0f}" if c == "steps" else f"{v:14.2f}" for c, v in values.items())
        lines.append(f"{arm:10}" + "".join(cells))
    return "\n".join(lines)


def ratios(found: dict[str, dict[str, float]]) -> list[str]:
    """What was measured against what it is to be compared with, where both were measured."""
    lines = []
    for arm in ("clbench", "avalanche"):
        if {arm, "floor"} <= found.keys():
            shown = [_ratio(found[arm], found["floor"], what, arm == "clbench") for what in TARGETS]
            lines.append(f"{arm} / floor: " + ", ".join(shown))
    if {"clbench", "avalanche"} <= found.keys():
        whole = _ratio(found["clbench"], found["avalanche"], "whole process")
        lines.append(f"clbench / avalanche: {whole} (target {WHOLE:.2f})")
    if set(HALVES) <= found.keys():
        shown = [_ratio(found["hft"], found["full"], what) for what in ("ms / step", "gradient kB", "optimiser kB")]
        lines.append("hft / full: " + ", ".join(shown))
    return lines


def _ratio(mine: dict[str, float], other: dict[str, float], what: str, judged: bool = False) -> str:
    target = f" (target {TARGETS[what]:.2f})" if judged else ""
    return f"{what} {mine[what] / other[what]:.3f}{target}"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    usual = ", ".join(f"{name} {asked.repeats}" for name, asked in WORKLOADS.items())
    parser.add_argument("--repeats", type=int, help=f"processes per arm; by default {usual}")
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--arms", nargs="+", choices=ARMS + HALVES, default=list(ARMS + HALVES))
    parser.add_argument("--quick", action="store_true", help="a tenth of the data, once: does it run at all?")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every process's figures there")
    return parser.parse_args()


def main() -> None:
    asked = arguments()
    everything: list[Measured] = []
    for name in asked.workloads:
        arms = [arm for arm in asked.arms if arm in WORKLOADS[name].arms]
        if not arms:
            continue
        with tempfile.TemporaryDirectory() as folder:
            prepare(name, 0.1 if asked.quick else 1.0, Path(folder))
            measured = measure(name, arms, 1 if asked.quick else asked.repeats or WORKLOADS[name].repeats, Path(folder))
        everything += measured
        found = {arm: medians(measured, arm) for arm in arms}
        print("\n".join([table(name, found), *ratios(found), ""]), flush=True)
    if asked.json:
        asked.json.write_text(json.dumps([dataclasses.asdict(m) for m in everything], indent=1) + "\n")


if __name__ == "__main__":
    main()
