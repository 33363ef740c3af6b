"""Editors of a small world's facts: how edits are trained, where, and what of the past is seen again.

    python results/measured/edits/study.py           all arms, seeds 0-2
    python results/measured/edits/study.py --quick   five arms, seed 0

Runs are kept in ``runs/`` beside this file (``--output`` says otherwise); what is finished is not run again. The
findings are written to ``findings.md`` beside the runs' folder. Edits are those of people of the evaluation half.
"""

from __future__ import annotations

from pathlib import Path

from arms import ARMS, SHARED
from findings import text

from clbench.arms import Arranged

QUICK = ("df, L3.mlp", "bf 1, L3.mlp", "bf 10, L3.mlp", "ft_l, df", "ft_l, bf")

if __name__ == "__main__":
    Arranged(ARMS, SHARED, QUICK, (0,), text).main(__doc__, Path(__file__).parent)
