"""Both paths of an operation, one beside the other; and the kernels in Triton's interpreter, which needs no GPU."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

import pytest
import torch

ROOT = Path(__file__).parents[2]
INSTALLED = importlib.util.find_spec("triton") is not None
needs_triton = pytest.mark.skipif(not INSTALLED, reason="Triton is not installed")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available() or not INSTALLED, reason="no GPU, or no Triton")

Made = TypeVar("Made")
Asked = ParamSpec("Asked")


def by(path: str, make: Callable[Asked, Made], *asked: Asked.args, **named: Asked.kwargs) -> Made:
    """What ``make`` returns where ``CLBENCH_KERNELS`` says ``path``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLBENCH_KERNELS", path)
        return make(*asked, **named)


def interpreted(module: str, function: str) -> None:
    """Call ``module.function("cpu")`` in a process whose kernels run in the interpreter, warnings being errors."""
    code = f"from {module} import {function}; {function}('cpu')"
    where = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], env=where, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def fresh() -> torch.Generator:
    """A generator that was never seeded so before; its seed is printed, for a failure to be seen again."""
    generator = torch.Generator()
    print("seed", generator.seed())
    return generator
