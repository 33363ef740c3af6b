"""What the loop costs: clbench's replay against a bare torch loop and Avalanche's, and half fine-tuning against full.

    python benchmarks/loop.py
    python benchmarks/loop.py --arms clbench floor --networks tiny --repeats 9

Every arm is a fresh process with one torch thread; the arms alternate (A B C, C B A, ...) and medians are shown.
"Whole process" is the user and system time of that process and its children, imports included. All arms use torch's
fused SGD, batches of 32 new and 32 replayed images, and test in batches of 256; Avalanche tests all classes each time,
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

import workload

HERE = Path(__file__).resolve().parent
ARMS = {"clbench": "clbench_arm.py", "floor": "floor.py", "avalanche": "peer_avalanche.py"}
HALVES = {"hft": "clbench_arm.py", "full": "clbench_arm.py"}
SCRIPTS = ARMS | HALVES
COMPARED = {"tiny": ARMS, "slim": SCRIPTS, "vit": HALVES}
"""Which arms say something on which network: half fine-tuning needs a network of several alike blocks."""

REPEATS = {"tiny": 5, "slim": 3, "vit": 3}
TARGETS = {"training": 1.05, "evaluation": 1.10, "whole process": 1.15}
"""Greatest wanted ratios of clbench to the floor."""


ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "PYTHONWARNINGS": "ignore",
    # glibc's allocator hands large blocks back to the system or keeps them, depending on all that was allocated
    # before: a lottery that doubles the cost of evaluation in one process and not in the next. Told to keep them.
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
}
"""Set for every arm."""


@dataclass(frozen=True)
class Measured:
    """One process: what the arm measured of itself, and what the operating system did."""

    network: str
    arm: str
    result: workload.Result
    process_seconds: float
    peak_bytes: int  # resident


def start(network: str, arm: str, data: Path) -> Measured:
    """Carry one arm out in a process of its own.

    Raises:
        SystemExit: it failed; its messages are shown.
    """
    command = [sys.executable, str(HERE / SCRIPTS[arm]), network, str(data)]
    command += [arm] if SCRIPTS[arm] == "clbench_arm.py" else []
    environment = os.environ | ENVIRONMENT
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as messages:
        process = subprocess.Popen(command, stdout=output, stderr=messages, env=environment)
        # of this one process, where getrusage would add up all that ended before
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        messages.seek(0)
        if process.returncode:
            raise SystemExit(f"arm {arm} failed on {network}:\n{messages.read()}")
        result = workload.Result(**json.loads(output.read()))
    unit = 1 if sys.platform == "darwin" else 1024
    return Measured(network, arm, result, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit)


def measure(network: str, arms: Sequence[str], repeats: int, data: Path) -> list[Measured]:
    """Every arm ``repeats`` times, in turns, each turn in the opposite order of the one before."""
    measured = []
    for repeat in range(repeats):
        for arm in arms if repeat % 2 == 0 else reversed(arms):
            measured.append(start(network, arm, data))
            print(f"{network} {arm} {repeat + 1}/{repeats}", file=sys.stderr, flush=True)
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


def table(network: str, found: dict[str, dict[str, float]]) -> str:
    """One line per arm."""
    columns = list(next(iter(found.values())))
    lines = [f"{network}: medians; CPU seconds unless said", " " * 10 + "".join(f"{c:>14}" for c in columns)]
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
    if found.keys() >= HALVES.keys():
        shown = [_ratio(found["hft"], found["full"], what) for what in ("ms / step", "gradient kB", "optimiser kB")]
        lines.append("hft / full: " + ", ".join(shown))
    return lines


def _ratio(mine: dict[str, float], other: dict[str, float], what: str, judged: bool = False) -> str:
    target = f" (target {TARGETS[what]:.2f})" if judged else ""
    return f"{what} {mine[what] / other[what]:.3f}{target}"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeats", type=int, help="processes per arm; by default " + str(REPEATS))
    parser.add_argument("--networks", nargs="+", choices=COMPARED, default=list(COMPARED))
    parser.add_argument("--arms", nargs="+", choices=SCRIPTS, default=list(SCRIPTS))
    parser.add_argument("--quick", action="store_true", help="a tenth of the data, once: does it run at all?")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every process's figures there")
    return parser.parse_args()


def main() -> None:
    asked = arguments()
    everything: list[Measured] = []
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data.npz"
        workload.make_data(0.1 if asked.quick else 1.0).save(data)
        for network in asked.networks:
            arms = [arm for arm in asked.arms if arm in COMPARED[network]]
            repeats = 1 if asked.quick else asked.repeats or REPEATS[network]
            measured = measure(network, arms, repeats, data)
            everything += measured
            found = {arm: medians(measured, arm) for arm in arms}
            if found:
                print("\n".join([table(network, found), *ratios(found), ""]), flush=True)
    if asked.json:
        asked.json.write_text(json.dumps([dataclasses.asdict(m) for m in everything], indent=1) + "\n")


if __name__ == "__main__":
    main()
