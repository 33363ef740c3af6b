"""Editors of a small world's facts: how edits are trained, where, and what of the past is seen again.

    python results/measured/edits/study.py           all arms, seeds 0-2
    python results/measured/edits/study.py --quick   five arms, seed 0

Runs are kept in ``runs/`` beside this file (``--output`` says otherwise); what is finished is not run again. The
findings are written to ``findings.md`` beside the runs' folder. Edits are those of people of the evaluation half.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from arms import ARMS, SHARED
from findings import text

from clbench import record
from clbench.arms import carry_out

HERE = Path(__file__).parent
QUICK = ("df, L3.mlp", "bf 1, L3.mlp", "bf 10, L3.mlp", "ft_l, df", "ft_l, bf")


def main() -> None:
    """Make the runs that are not there yet, then write what they say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="five arms, one seed")
    parser.add_argument("--output", type=Path, default=HERE / "runs", help="where runs are kept")
    parser.add_argument("--workers", type=int, help="processes; one per core by default")
    asked = parser.parse_args()
    arms = {name: ARMS[name] for name in QUICK} if asked.quick else ARMS
    shared = [*SHARED[:3], "protocol.seeds=[0]"] if asked.quick else SHARED
    found = carry_out(arms, shared, asked.output, asked.workers, lambda name: print(name, flush=True))
    written = text(found)
    record.write_atomically(asked.output.parent / "findings.md", written.encode())
    print(written)


if __name__ == "__main__":
    main()
