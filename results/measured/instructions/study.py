"""Half fine-tuning, running averages, adapters and replay on a stream of instructions: runs, then findings.

    python results/measured/instructions/study.py           all arms, seeds 0-4
    python results/measured/instructions/study.py --quick   five arms, seeds 0-1

Runs are kept in ``runs/`` beside this file (``--output`` says otherwise); what is finished is not run again. The
findings are written to ``findings.md`` beside the runs' folder. Every arm has the scenario's training: 40 steps of 16
examples per task, the learning rate at which plain fine-tuning loses between 20 and 60 points (calibrated on seed 0).
"""

from __future__ import annotations

import argparse
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from arms import ARMS, by_arm
from findings import text

from clbench import record
from clbench.config import jobs
from clbench.executor import executors
from clbench.executors.processes import ProcessesConfig
from clbench.protocol import Protocol, Study, protocols
from clbench.record import Record
from clbench.run import resolved_model

HERE = Path(__file__).parent
QUICK = ("naive", "hft", "replay", "fixed_ema 0.99", "coin, code 2")


def main() -> None:
    """Make the runs that are not there yet, then write what they say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="five arms, two seeds")
    parser.add_argument("--output", type=Path, default=HERE / "runs", help="where runs are kept")
    parser.add_argument("--workers", type=int, help="processes; one per core by default")
    asked = parser.parse_args()
    names, seeds = (QUICK, [0, 1]) if asked.quick else (tuple(ARMS), [0, 1, 2, 3, 4])
    studies = {name: _study(name, seeds, asked.output) for name in names}
    found: dict[str, tuple[Record, ...]] = {}
    executor = executors.build(ProcessesConfig(asked.workers, 1), len(names) * len(seeds), "cpu")
    with executor, ThreadPoolExecutor(len(names)) as arms:
        done = {name: arms.submit(one[1].carry_out, one[0], executor.submit) for name, one in studies.items()}
        for number, (name, records) in enumerate(done.items(), 1):
            found[name] = records.result()
            print(f"{number:3} of {len(done)} arms: {name}", flush=True)
    written = text(by_arm([run for runs in found.values() for run in runs]))
    record.write_atomically(asked.output.parent / "findings.md", written.encode())
    print(written)


def _study(name: str, seeds: list[int], output: Path) -> tuple[Study, Protocol]:
    words = ["scenario=instructions", "protocol=single", f"protocol.seeds={seeds}", *ARMS[name]]
    (job,) = jobs([word.replace(" ", "") for word in words])
    config = job.config
    model = resolved_model(config.model, config.scenario, config.strategy)
    study = Study(config.scenario, config.strategy, model, "cpu", output, None, job.asked)
    return study, protocols.build(config.protocol)


if __name__ == "__main__":
    main()
