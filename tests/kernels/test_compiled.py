"""Every kernel is compiled for compute capability 9.0 as it is launched, on any machine that has Triton.

That finds what the interpreter lets pass: types, registers that spill, narrow stores, roundings that were left out.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.kernels.paths import ROOT, needs_triton

pytestmark = needs_triton

GATHER = {
    **dict.fromkeys(("labels", "rows", "offsets", "moving", "out_labels", "index"), "*i64"),
    **dict.fromkeys(("scale", "shift", "logits", "out_logits"), "*fp32"),
    **dict.fromkeys(("count", "batch", "classes", "C", "H", "W", "image_blocks"), "i32"),
    **dict.fromkeys(("stride_n", "stride_c", "stride_h", "stride_w"), "i32"),
    **{"store": "*u8", "mirrored": "*i1", "images": "*bf16", "seed": "i64", "step": "i64"},
}
RRC = {
    **dict.fromkeys(("boxes", "scales", "scale", "shift"), "*fp32"),
    **dict.fromkeys(("batch", "C", "W", "S", "stride_n", "stride_c", "stride_h", "stride_w"), "i32"),
    **{"store": "*u8", "index": "*i64", "mirrored": "*i1", "crops": "*bf16"},
}
MERGE = {"weights": "*fp32", "count": "i32", "addresses": "*i64", "sizes": "*i64", "tensor_of": "*i32"}
MERGE |= {"place_of": "*i32"}
COUNTED = {"SAMPLE": 0, "AUGMENT": 1, "PERMUTE": 2, "ROUNDS": 6, "BLOCK": 1024, "PADDING": 4, "BITS": 8}
FULL = {"MAPPED": True, "SEEDED": True, "MOVING": True, "CROP": True, "FLIP": True, "LABELS": True, "LOGITS": True}
BARE = {"MAPPED": False, "SEEDED": False, "MOVING": False, "CROP": True, "FLIP": True, "LABELS": False, "LOGITS": False}
CASES: dict[str, list[tuple[dict[str, str], dict[str, Any]]]] = {
    "replay_gather": [
        (GATHER, {**COUNTED, **FULL, "ROWS": 2, "CHANNELS_LAST": True, "C": 3, "stride_w": 1}),
        (GATHER, {**COUNTED, **FULL, "ROWS": 3, "CHANNELS_LAST": False, "stride_w": 1}),
        (GATHER, {**COUNTED, **BARE, "ROWS": 1, "CHANNELS_LAST": True, "C": 3, "stride_w": 1}),
    ],
    "replay_rrc": [
        (RRC, {"INDEXED": True, "FLIP": True, "CHANNELS_LAST": last, "C": 3, "BLOCK": 1024}) for last in (True, False)
    ],
    "ema_merge": [
        (MERGE, {"TYPE": type_, "CHUNK": 16384, "BLOCK": 1024}) for type_ in ("float32", "bfloat16", "float16")
    ],
}
"""Types of the arguments, and the values of those that are known at compile time; strings name Triton's types."""

DIVISIBLE = {"store", "images", "crops", "logits", "out_logits", "H", "S", "W", "stride_n", "stride_c", "stride_h"}
"""What Triton finds to be divisible by 16 at the shapes in use."""

BUILD = """
import importlib, json
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from clbench.kernels.compiled import OPTIONS
from tests.kernels.test_compiled import CASES, DIVISIBLE

def ptx(name, types, known):
    kernel = importlib.import_module("clbench.kernels.compiled." + name).kernel
    place = kernel.arg_names.index
    signature = {arg: "constexpr" if arg in known else types[arg] for arg in kernel.arg_names}
    divisible = {(place(arg),): [["tt.divisibility", 16]] for arg in DIVISIBLE & set(types) - set(known)}
    values = {(place(arg),): getattr(tl, v) if isinstance(v, str) else v for arg, v in known.items()}
    source = ASTSource(kernel, signature, values, divisible)
    return compile(source, target=GPUTarget("cuda", 90, 32), options=OPTIONS).asm["ptx"]

print(json.dumps({name: [ptx(name, *case) for case in cases] for name, cases in CASES.items()}))
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Each case's PTX. Compiling makes machine code of it too."""
    where = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    where |= {"PYTHONPATH": str(ROOT), "TRITON_CACHE_DIR": str(tmp_path_factory.mktemp("triton"))}
    done = subprocess.run([sys.executable, "-c", BUILD], env=where, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    made: dict[str, list[str]] = json.loads(done.stdout)
    return made


def assembler_says(ptx: str, folder: Path) -> str:
    """What NVIDIA's assembler, which Triton brings along, tells of registers."""
    found = importlib.util.find_spec("triton")
    assert found is not None
    assert found.origin is not None
    tools = Path(found.origin).parent / "backends" / "nvidia" / "bin"
    path = folder / "kernel.ptx"
    path.write_text(ptx)
    said = ""
    for tool in sorted(tools.glob("ptxas*")):
        words = [str(tool), "-v", "--fmad=false", "--gpu-name", "sm_90a", str(path), "-o", os.devnull]
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode == 0:
            return done.stderr
        said += done.stderr
    raise AssertionError(f"no assembler in {tools} takes it: {said}")


@pytest.mark.parametrize(("name", "number"), [(name, n) for name, cases in CASES.items() for n in range(len(cases))])
def test_a_kernel_compiles_without_spills_and_stores_16_bytes_at_once(
    name: str, number: int, compiled: dict[str, list[str]], tmp_path: Path
) -> None:
    ptx = compiled[name][number]
    said = assembler_says(ptx, tmp_path)
    assert "0 bytes spill stores, 0 bytes spill loads" in said, said
    assert re.search(r"st\.global\S*\.v4", ptx), "no store of 16 bytes"


@pytest.mark.parametrize("name", ["replay_gather", "ema_merge"])
def test_products_are_rounded_before_they_are_added(name: str, compiled: dict[str, list[str]]) -> None:
    for ptx in compiled[name]:
        assert "mul" in ptx
        assert not re.findall(r"\bfma\.", ptx)
