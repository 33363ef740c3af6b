"""Does torch.compile, or a CUDA graph, help a network so small that starting its operations is most of a step?

    python benchmarks/compiled.py
    python benchmarks/compiled.py --device cuda --networks tiny slim vit

A step of replay: 64 stored images cropped, mirrored and normalised, forward, backward, fused SGD. Arms: as it stands
(eager); the network compiled; on a GPU also compiled with mode="reduce-overhead", and the whole step captured once and
replayed. All start from the same weights and see the same batches. Shown are the time of a step once nothing is
compiled any more (arms in turn in one process, medians), the seconds spent until then, the number of steps from which
on that has paid, and how far the losses of the first steps are from eager's: compiled code rounds otherwise.

A step is measured in processor time of one thread on the CPU, else by the wall clock, as is what comes before. Caches
on disk are not used.
"""

from __future__ import annotations

import argparse
import copy
import os
import time
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

os.environ["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"  # read when torch.compile is imported

import networks
import torch
import torch.nn.functional as F
import workload
from scaling import clock
from torch import Tensor, nn

from clbench.kernels.draws import Seeded
from clbench.kernels.replay_gather import replay_gather

BATCH = workload.BATCH + workload.REPLAYED
FIRST = 8  # steps of each arm before the clock starts: compilers and graphs look at some before they settle
STORED = 2_000  # images


class Loop:
    """Training with one arm; calling it takes a step."""

    def __init__(self, network: nn.Module, device: str, compiled: Callable[[nn.Module], Callable[[Tensor], Tensor]]):
        draws = torch.Generator().manual_seed(0)
        images = torch.randint(256, (STORED, 3, 32, 32), dtype=torch.uint8, generator=draws)
        labels = torch.randint(workload.CLASSES, (STORED,), generator=draws)
        self.images, self.labels = images.to(device), labels.to(device)
        self.network = copy.deepcopy(network).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.forward = compiled(self.network)
        self.optimizer = torch.optim.SGD(
            self.network.parameters(),
            lr=workload.LEARNING_RATE,
            momentum=workload.MOMENTUM,
            weight_decay=workload.WEIGHT_DECAY,
            fused=True,
        )
        self.step = torch.zeros((), dtype=torch.int64, device=device)
        self.loss = torch.zeros((), device=device)

    def __call__(self) -> None:
        """Take a step."""
        draws = Seeded(BATCH, seed=0, step=self.step)
        batch = replay_gather(
            self.images, draws, mean=workload.MEAN, std=workload.STD, padding=workload.PADDING, labels=self.labels
        )
        assert batch.labels is not None
        self.optimizer.zero_grad()
        loss = F.cross_entropy(self.forward(batch.images), batch.labels)
        loss.backward()
        self.optimizer.step()
        self.step += 1
        self.loss.copy_(loss.detach())


class Captured:
    """The same with all of a step in one CUDA graph, from the fourth step on."""

    def __init__(self, network: nn.Module, device: str) -> None:
        self.loop = Loop(network, device, lambda whole: whole)
        self.loss, self.taken = self.loop.loss, 0
        self.graph = torch.cuda.CUDAGraph()

    def __call__(self) -> None:
        """Take a step."""
        if self.taken < 3:  # what torch makes late has to be there before it is captured
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                self.loop()
            torch.cuda.current_stream().wait_stream(side)
        else:
            if self.taken == 3:
                with torch.cuda.graph(self.graph):
                    self.loop()
            self.graph.replay()
        self.taken += 1


class Found(NamedTuple):
    """What was measured of one arm."""

    step: float  # seconds
    before: float  # seconds of the first steps beyond what they take later
    losses: list[float]  # of the first steps


def arms(network: nn.Module, device: str) -> dict[str, Loop | Captured]:
    """What is compared, by name."""
    found: dict[str, Loop | Captured] = {
        "eager": Loop(network, device, lambda whole: whole),
        "compiled": Loop(network, device, torch.compile),
    }
    if device == "cuda":
        overhead: Callable[[nn.Module], Callable[[Tensor], Tensor]] = lambda whole: torch.compile(  # noqa: E731
            whole, mode="reduce-overhead"
        )
        found |= {"reduce-overhead": Loop(network, device, overhead), "step captured": Captured(network, device)}
    return found


def measure(network: nn.Module, device: str, steps: int, rounds: int) -> dict[str, Found]:
    """Every arm's first steps, then so many more in each round, every round in the opposite order."""
    loops = arms(network, device)
    losses: dict[str, list[float]] = {name: [] for name in loops}
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    first = {}
    for name, loop in loops.items():
        begun = time.perf_counter()  # compilers are processes of their own
        for _ in range(FIRST):
            loop()
            losses[name].append(float(loop.loss))
        first[name] = time.perf_counter() - begun
    for turn in range(rounds):
        for name in list(loops)[:: -1 if turn % 2 else 1]:
            begun = clock(device)
            for _ in range(steps):
                loops[name]()
            seconds[name].append((clock(device) - begun) / steps)
    middle = {name: median(found) for name, found in seconds.items()}
    return {name: Found(middle[name], first[name] - FIRST * middle[name], losses[name]) for name in loops}


def table(found: dict[str, Found]) -> list[str]:
    """One line per arm."""
    lines = [f"{'':16}{'ms / step':>10}{'ratio':>8}{'s before':>10}{'pays from step':>16}{'loss off by':>13}"]
    eager = found["eager"]
    for name, arm in found.items():
        gain, cost = eager.step - arm.step, arm.before - eager.before
        pays = "" if name == "eager" else f"{max(0.0, cost) / gain:,.0f}" if gain > 0 else "never"
        off = max(abs(one - other) for one, other in zip(arm.losses, eager.losses, strict=True))
        numbers = f"{1e3 * arm.step:10.2f}{arm.step / eager.step:8.2f}{arm.before:10.1f}"
        lines.append(f"{name:16}{numbers}{pays:>16}{off:13.1e}")
    return lines


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--networks", nargs="+", choices=workload.NETWORKS, default=["tiny", "slim"])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--steps", type=int, default=50, help="of each arm and round")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="few steps of the smallest network: does it run at all?")
    asked = parser.parse_args()
    names, steps, rounds = (["tiny"], 2, 1) if asked.quick else (asked.networks, asked.steps, asked.rounds)
    torch.set_num_threads(1)
    where = torch.cuda.get_device_name() if asked.device == "cuda" else "one thread"
    for name in names:
        torch.manual_seed(workload.SEED)
        found = measure(networks.build(name), asked.device, steps, rounds)
        print(f"{name}, {BATCH} images, {where}, torch {torch.__version__}")
        print("\n".join(table(found)), end="\n\n", flush=True)
        torch.compiler.reset()  # what one network left behind is not the next one's


if __name__ == "__main__":
    main()
