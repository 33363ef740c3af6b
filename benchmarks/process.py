"""One arm in a process of its own, and what the operating system counts of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import workload

HERE = Path(__file__).resolve().parent

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

    name: str  # of the workload
    arm: str
    result: workload.Result
    process_seconds: float
    peak_bytes: int  # resident


def start(script: str, name: str, folder: Path, arm: str) -> Measured:
    """Carry an arm out on a workload.

    Raises:
        SystemExit: it failed; its messages are shown.
    """
    command = [sys.executable, str(HERE / script), name, str(folder), arm]
    environment = os.environ | ENVIRONMENT
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as messages:
        process = subprocess.Popen(command, stdout=output, stderr=messages, env=environment)
        # of this one process, where getrusage would add up all that ended before
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        messages.seek(0)
        if process.returncode:
            raise SystemExit(f"arm {arm} failed on {name}:\n{messages.read()}")
        result = workload.Result(**json.loads(output.read()))
    unit = 1 if sys.platform == "darwin" else 1024
    return Measured(name, arm, result, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit)
