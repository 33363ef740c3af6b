"""Each kernel on a GPU against the best that torch does, what torch.compile makes of it, and the memory's speed.

    python benchmarks/kernels/bench_cuda.py
    python benchmarks/kernels/bench_cuda.py --only merge --json FILE
    python benchmarks/kernels/bench_cuda.py --dry

Columns, medians in microseconds: device (Triton's do_bench, which empties the cache before each call and so hides what
the host takes), host (200 calls between two waits), graph (ten calls captured in a CUDA graph); share of the roofline,
which is the bytes that have to be moved over ``--bandwidth``. Every arm is first compared with float64 on memory that
torch filled with NaN. Inputs rotate over copies that exceed the second-level cache twice.

``--dry`` goes through it on the CPU with tiny inputs, Triton's interpreter in the GPU's place: does it run at all?
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

DRY = "--dry" in sys.argv
if DRY:
    os.environ["TRITON_INTERPRET"] = "1"  # Triton reads it as it is imported

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from timing import in_turns  # noqa: E402
from torch import Tensor  # noqa: E402

from clbench.images.crops import random_boxes  # noqa: E402
from clbench.kernels.draws import Given, Seeded, drawn  # noqa: E402
from clbench.kernels.ema_merge import ema_merge_  # noqa: E402
from clbench.kernels.replay_gather import replay_gather  # noqa: E402
from clbench.kernels.replay_rrc import replay_rrc  # noqa: E402

DEVICE = "cpu" if DRY else "cuda"
CACHE = 60e6  # bytes, of the second level; H100 and H200 have 50 MB
ROUNDS, CALLS = 5, 200
NORMAL: dict[str, Any] = {"mean": (0.5,) * 3, "std": (0.25,) * 3}
Function = Callable[..., Any]


@dataclass(frozen=True)
class Case:
    """One operation at one size.

    Attributes:
        name: of both.
        make: fresh inputs.
        arms: what is compared; each takes the inputs and returns what is to be right.
        right: the same in float64.
        tolerance: greatest error, relative to the greatest value.
        moved: bytes that have to be read and written.
    """

    name: str
    make: Callable[[], tuple[Any, ...]]
    arms: dict[str, Function]
    right: Function
    tolerance: float
    moved: float


@dataclass(frozen=True)
class Row:
    """One arm's figures: microseconds, shares, and the slowest over the fastest round."""

    case: str
    arm: str
    device: float
    host: float
    graph: float
    roofline: float
    share: float
    error: float
    spread: float

    def __str__(self) -> str:
        times = f"{self.device:10.1f}{self.host:10.1f}{self.graph:10.1f}{self.roofline:10.2f}{self.share:9.1%}"
        return f"{self.case:34}{self.arm:16}{times}{self.error:10.1e}{self.spread:8.2f}"


HEAD = f"{'':50}{'device':>10}{'host':>10}{'graph':>10}{'roofline':>10}{'share':>9}{'error':>10}{'spread':>8}"


def by(path: str, function: Function) -> Function:
    """The function, with ``CLBENCH_KERNELS`` set to one path."""

    def run(*inputs: Any) -> Any:
        os.environ["CLBENCH_KERNELS"] = path
        return function(*inputs)

    return run


def compiled(function: Function) -> dict[str, Function]:
    """The function as torch.compile makes it; not in a dry run, where it would take longest."""
    return {} if DRY else {"torch.compile": torch.compile(function)}


def gather(batch: int, store: Tensor, rows: Tensor, offsets: Tensor, mirrored: Tensor) -> Tensor:
    """Draws that are handed over."""
    given = Given(rows, offsets, mirrored)
    return replay_gather(store, given, padding=4, dtype=torch.bfloat16, **NORMAL).images


def seeded(batch: int, store: Tensor, *_: Tensor) -> Tensor:
    """The same draws, made by the kernel."""
    return replay_gather(store, Seeded(batch, 7, 1), padding=4, dtype=torch.bfloat16, **NORMAL).images


def indexed(precision: torch.dtype, store: Tensor, rows: Tensor, offsets: Tensor, mirrored: Tensor) -> Tensor:
    """The same as one expression over pixels: what a compiler can make one kernel of, and the definition."""
    height, width = store.shape[2:]
    y, x = torch.arange(height, device=store.device), torch.arange(width, device=store.device)
    x = torch.where(mirrored[:, None], width - 1 - x, x) + offsets[1][:, None] - 4
    y = y + offsets[0][:, None] - 4
    inside = ((y >= 0) & (y < height))[:, None, :, None] & ((x >= 0) & (x < width))[:, None, None, :]
    place = rows[:, None, None, None], torch.arange(3, device=store.device)[None, :, None, None]
    grey = store[(*place, y.clamp(0, height - 1)[:, None, :, None], x.clamp(0, width - 1)[:, None, None, :])] * inside
    return (grey.to(precision) / 255 - 0.5) / 0.25


def gathers() -> Iterator[Case]:
    """CIFAR's batches, and one of a vision transformer's size."""
    for count, side, batch in [(64, 8, 4)] if DRY else [(50_000, 32, 128), (50_000, 32, 1024), (20_000, 224, 128)]:

        def make(count: int = count, side: int = side, batch: int = batch) -> tuple[Any, ...]:
            store = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, device=DEVICE)
            return (store, *drawn(Seeded(batch, 7, 1), count, 4, DEVICE))

        arms = {
            "triton": by("triton", partial(gather, batch)),
            "triton, seeded": by("triton", partial(seeded, batch)),
            "torch": by("torch", partial(gather, batch)),
            **compiled(lambda *inputs: indexed(torch.float32, *inputs).to(torch.bfloat16)),
        }
        right = partial(indexed, torch.float64)
        yield Case(f"gather {side}x{side} B={batch}", make, arms, right, 8e-3, batch * 3 * side**2 * 3)


def crops() -> Iterator[Case]:
    """CIFAR for vision transformers."""
    for side, size, batch in [(8, 16, 2)] if DRY else [(32, 224, 128)]:

        def make(side: int = side, batch: int = batch) -> tuple[Any, ...]:
            store = torch.randint(0, 256, (batch, 3, side, side), dtype=torch.uint8, device=DEVICE)
            boxes = random_boxes(batch, side, side, (0.05, 1.0), (3 / 4, 4 / 3), torch.Generator())
            return store, boxes.float().to(DEVICE)

        def crop(store: Tensor, boxes: Tensor, size: int = size) -> Tensor:
            return replay_rrc(store, boxes, size, dtype=torch.bfloat16, **NORMAL)

        def each(store: Tensor, boxes: Tensor, size: int = size) -> Tensor:
            """An image at a time, as transforms of single images have it; not rounded to grey values."""
            places = boxes.T.long().tolist()
            cut = [i[None, :, t : t + h, x : x + w].double() for i, (t, x, h, w) in zip(store, places, strict=True)]
            return (torch.cat([F.interpolate(c, (size, size), mode="bilinear") for c in cut]) / 255 - 0.5) / 0.25

        arms = {"triton": by("triton", crop), "torch": by("torch", crop), "each image": each}
        yield Case(f"crop {side} to {size} B={batch}", make, arms, each, 2e-2, batch * 3 * (side**2 + 2 * size**2))


def merges() -> Iterator[Case]:
    """A transformer's adapters, and all of its feed-forward weights; one weight per tensor, on the device."""
    tiny: list[list[tuple[int, ...]]] = [[(30, 7), (5,)]]
    large: list[list[tuple[int, ...]]] = [[(64, 768), (64,), (768, 64), (768,)] * 12, [(768, 3072)] * 36]
    for shapes in tiny if DRY else large:

        def make(shapes: list[tuple[int, ...]] = shapes) -> tuple[Any, ...]:
            sides = [[torch.randn(shape, device=DEVICE) for shape in shapes] for _ in range(2)]
            return (*sides, torch.full((len(shapes),), 1e-3, device=DEVICE))

        def merge(averages: list[Tensor], tensors: list[Tensor], weights: Tensor) -> Tensor:
            ema_merge_(averages, tensors, weights)
            return averages[0]

        def each(averages: list[Tensor], tensors: list[Tensor], weights: Tensor) -> Tensor:
            """A tensor at a time, as such methods are published."""
            for average, tensor, weight in zip(averages, tensors, weights, strict=True):
                average.mul_(1 - weight).add_(tensor * weight)
            return averages[0]

        def right(averages: list[Tensor], tensors: list[Tensor], weights: Tensor) -> Tensor:
            return torch.lerp(averages[0].double(), tensors[0].double(), weights[0].double())

        arms = {"triton": by("triton", merge), "torch": by("torch", merge), "each tensor": each, **compiled(each)}
        numbers = sum(torch.Size(shape).numel() for shape in shapes)
        yield Case(f"merge {numbers / 1e6:.1f}M", make, arms, right, 1e-5, 12 * numbers)


def device_seconds(run: Callable[[], object]) -> float:
    """Of one call, the cache being empty."""
    if DRY:
        begun = time.perf_counter()
        run()
        return time.perf_counter() - begun
    from triton.testing import do_bench

    return float(do_bench(run, warmup=10, rep=60, return_mode="median")) / 1e3


def wait() -> None:
    """For the GPU, where there is one."""
    if not DRY:
        torch.cuda.synchronize()


def host_seconds(run: Callable[[], object]) -> float:
    """Of one of many calls that nothing waits for in between."""
    calls = 1 if DRY else CALLS
    run()
    wait()
    begun = time.perf_counter()
    for _ in range(calls):
        run()
    wait()
    return (time.perf_counter() - begun) / calls


def graph_seconds(run: Callable[[], object]) -> float:
    """Of one of ten calls in a CUDA graph; not a number where the arm waits for the device, which no graph can hold."""
    if DRY:
        return math.nan
    graph = torch.cuda.CUDAGraph()
    try:
        run()
        torch.cuda.synchronize()
        with torch.cuda.graph(graph):
            for _ in range(10):
                run()
    except RuntimeError:
        torch.cuda.synchronize()
        return math.nan
    return device_seconds(graph.replay) / 10


def error(case: Case, arm: Function) -> float:
    """The arm's greatest error on inputs of its own, relative to the greatest value.

    Raises:
        SystemExit: it is not right.
    """
    inputs = case.make()
    wanted = case.right(*inputs)
    torch.use_deterministic_algorithms(True, warn_only=True)  # torch then fills fresh memory with NaN
    try:
        found = float((arm(*inputs).double() - wanted).abs().max() / wanted.abs().max())
    finally:
        torch.use_deterministic_algorithms(False)
    if not found < case.tolerance:
        raise SystemExit(f"{case.name} is wrong: error {found}, allowed {case.tolerance}")
    return found


def measured(case: Case, bandwidth: float) -> Iterator[Row]:
    """The case's rows."""
    errors = {name: error(case, arm) for name, arm in case.arms.items()}
    copies = 1 if DRY else max(2, min(16, int(2 * CACHE / case.moved) + 1))
    inputs = itertools.cycle([case.make() for _ in range(copies)])
    found: dict[str, list[float]] = {name: [] for name in case.arms}
    for name in in_turns(case.arms, 1 if DRY else ROUNDS):
        found[name].append(device_seconds(lambda run=case.arms[name]: run(*next(inputs))))  # type: ignore[misc]
    roofline, same = case.moved / bandwidth, next(inputs)
    for name, arm in case.arms.items():
        device = median(found[name])
        host = host_seconds(lambda run=arm: run(*next(inputs)))  # type: ignore[misc]
        graph = graph_seconds(lambda run=arm: run(*same))  # type: ignore[misc]
        spread = max(found[name]) / min(found[name])
        times = {"device": device, "host": host, "graph": graph, "roofline": roofline}
        shown = {of: seconds * 1e6 for of, seconds in times.items()}
        yield Row(case.name, name, share=roofline / device, error=errors[name], spread=spread, **shown)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    cases = {"gather": gathers, "crop": crops, "merge": merges}
    parser.add_argument("--only", choices=cases, help="one of the operations")
    parser.add_argument(
        "--bandwidth", type=float, default=4.3e12, help="bytes per second; an H200's, as streams see it"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every row there")
    parser.add_argument("--dry", action="store_true", help="tiny, on the CPU: does it run at all?")
    asked = parser.parse_args()
    if not DRY and not torch.cuda.is_available():
        raise SystemExit("no GPU here: run it on one, or with --dry")
    print(HEAD)
    rows = []
    for name, made in cases.items():
        for case in made() if asked.only in (None, name) else ():
            for row in measured(case, asked.bandwidth):
                print(row, flush=True)
                rows.append(asdict(row))
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
