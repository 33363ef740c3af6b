"""Half fine-tuning, running averages, adapters and replay on a stream of instructions: runs, then findings.

    python results/measured/instructions/study.py           all arms, seeds 0-4
    python results/measured/instructions/study.py --quick   five arms, seeds 0-1

Runs are kept in ``runs/`` beside this file (``--output`` says otherwise); what is finished is not run again. The
findings are written to ``findings.md`` beside the runs' folder. Every arm has the scenario's training: 40 steps of 16
examples per task, the learning rate at which plain fine-tuning loses between 20 and 60 points (calibrated on seed 0).
"""

from __future__ import annotations

from pathlib import Path

from arms import ARMS, SHARED
from findings import text

from clbench.arms import Arranged

QUICK = ("naive", "hft", "replay", "fixed_ema 0.99", "coin, code 2")

if __name__ == "__main__":
    Arranged(ARMS, SHARED, QUICK, (0, 1), text).main(__doc__, Path(__file__).parent)
