"""What reports cost as runs come to be many: the first reading, the next, and the memory.

    python benchmarks/report.py
    python benchmarks/report.py --runs 100000 --read 10000

Copies of the measured CIFAR-100 and digits runs, each under a name, a learning rate and a seed of its own, are laid out
as two people's output folders: one of ``--read`` runs, from which the reports are made, and one of the rest. Both are
indexed first; then each format is made in a process of its own, start-up included.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MEASURED = Path(__file__).parent.parent / "results" / "measured"
SEEDS = 5


def main() -> None:
    """Make the runs, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--read", type=int, default=10_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        os.environ["CLBENCH_CACHE"] = f"{name}/cache"
        folders = {f"{name}/mine": asked.read, f"{name}/theirs": asked.runs - asked.read}
        for folder, runs in folders.items():
            lay_out(Path(folder), runs)
        print(f"{asked.runs:,} runs, reports of {asked.read:,} of them{'':14}seconds    CPU s   peak MB")
        for folder, runs in folders.items():
            if runs:
                tell(f"first reading of {runs:,}", ["report", folder, "--format", "csv"])
        for form in ("csv", "markdown", "latex", "table"):
            tell(f"again, as {form}", ["report", f"{name}/mine", "--format", form])
        size = sum(path.stat().st_size for path in Path(name, "cache").rglob("*") if path.is_file())
        print(f"index: {size / 1e6:.0f} MB")


def lay_out(folder: Path, count: int) -> None:
    """Write so many run folders."""
    found = [json.loads(path.read_text()) for path in sorted(MEASURED.glob("*/runs/**/record.json"))]
    chosen = [raw for raw in found if raw["scenario"] in ("cifar100", "digits") and raw["phase"] == "evaluation"]
    for i in range(count):
        raw = dict(chosen[i // SEEDS % len(chosen)])
        raw |= {"run": f"{i:016x}", "seed": i % SEEDS, "data_digest": f"{i % SEEDS}"}
        raw["strategy_config"] = {**raw["strategy_config"], "lr": 1e-3 * (1 + i // SEEDS // len(chosen))}
        where = folder / raw["scenario"] / raw["strategy"] / raw["run"]
        where.mkdir(parents=True)
        (where / "record.json").write_text(json.dumps(raw, indent=1))


def tell(what: str, words: list[str]) -> None:
    """Print what one command took."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "clbench", *words], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{words} failed")
    # Kilobytes but on macOS, where they are bytes.
    peak = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    elapsed, busy = time.perf_counter() - start, used.ru_utime + used.ru_stime
    print(f"{what:44}{elapsed:11.2f}{busy:9.2f}{peak / 1e6:10.0f}", flush=True)


if __name__ == "__main__":
    main()
