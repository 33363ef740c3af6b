"""Where a run is computed: versions, commit, device. And how much memory it takes there."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import os
import platform
import re
import resource
import subprocess
import sys
from pathlib import Path

import torch

import clbench
from clbench.record import Environment

PACKAGES = (
    *("torch", "numpy", "optuna", "scikit-learn", "timm", "torchvision", "avalanche-lib"),
    *("transformers", "tokenizers", "peft"),
)


@functools.lru_cache
def commit() -> str:
    """The git commit of this code, ``+`` behind it where files differ from it; empty outside a checkout."""
    package = Path(clbench.__file__).resolve().parent

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(package), *words], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "..")
        return git("rev-parse", "HEAD")[:12] + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


@functools.lru_cache
def _versions() -> dict[str, str]:
    versions = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions | {"torch": str(torch.__version__)}  # names the build too


def describe(device: torch.device) -> Environment:
    """The environment of a run on ``device``."""
    return Environment(
        clbench=clbench.__version__,
        commit=commit(),
        python=platform.python_version(),
        packages=dict(_versions()),
        platform=platform.platform(),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        threads=torch.get_num_threads(),
    )


def reset_peak(device: torch.device) -> None:
    """Begin a new measurement of `peak_bytes`."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")


def peak_bytes(device: torch.device) -> int | None:
    """Most memory since `reset_peak`: allocated on the GPU, resident in the process on the CPU.

    Where the operating system cannot reset its count, the most since the process began.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    with contextlib.suppress(OSError):
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
        if found:
            return int(found[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_each(processes: int) -> int:
    """Threads for each of so many processes: what ``OMP_NUM_THREADS`` asks for, else their share of the cores."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdigit() and int(asked) else max(1, cores() // processes)
