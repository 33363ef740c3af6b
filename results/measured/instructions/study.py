"""Half fine-tuning, running averages, adapters and replay on a stream of instructions: runs, then findings.

    python results/measured/instructions/study.py           all arms, seeds 0-4
    python results/measured/instructions/study.py --quick   five arms, seeds 0-1

Runs are kept in ``runs/`` beside this file (``--output`` says otherwise); what is finished is not run again. The
findings are written to ``findings.md`` beside the runs' folder. Every arm has the scenario's training: 40 steps of 16
examples per task, the learning rate at which plain fine-tuning loses between 20 and 60 points (calibrated on seed 0).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from arms import ARMS, SHARED
from findings import text

from clbench import record
from clbench.arms import carry_out

HERE = Path(__file__).parent
QUICK = ("naive", "hft", "replay", "fixed_ema 0.99", "coin, code 2")


def main() -> None:
    """Make the runs that are not there yet, then write what they say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="five arms, two seeds")
    parser.add_argument("--output", type=Path, default=HERE / "runs", help="where runs are kept")
    parser.add_argument("--workers", type=int, help="processes; one per core by default")
    asked = parser.parse_args()
    arms = {name: ARMS[name] for name in QUICK} if asked.quick else ARMS
    shared = [*SHARED[:2], "protocol.seeds=[0,1]"] if asked.quick else SHARED
    found = carry_out(arms, shared, asked.output, asked.workers, lambda name: print(name, flush=True))
    written = text(found)
    record.write_atomically(asked.output.parent / "findings.md", written.encode())
    print(written)


if __name__ == "__main__":
    main()
