"""What the two benchmarks of the kernels share: arms in turns, medians, a table."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator, Mapping
from statistics import median
from typing import TypeAlias

Arms: TypeAlias = Mapping[str, Callable[[], object]]
"""What is compared, by name."""


def cpu_seconds() -> float:
    """CPU time of this process and of its children that ended; other jobs on the machine do not add to it."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def in_turns(arms: Arms, rounds: int) -> Iterator[str]:
    """The arms' names, each as often as there are rounds, every round in the opposite order of the one before."""
    for number in range(rounds):
        yield from list(arms) if number % 2 == 0 else list(arms)[::-1]


def raced(arms: Arms, rounds: int, clock: Callable[[], float]) -> dict[str, list[float]]:
    """Seconds of each arm in each round, after one run of each that does not count."""
    for run in arms.values():
        run()
    found: dict[str, list[float]] = {name: [] for name in arms}
    for name in in_turns(arms, rounds):
        begun = clock()
        arms[name]()
        found[name].append(clock() - begun)
    return found


def compared(title: str, found: Mapping[str, list[float]], items: int, ours: str) -> list[str]:
    """A table: microseconds per item, how many times those of ``ours``, and the slowest over the fastest round."""
    middle = {name: median(seconds) / items * 1e6 for name, seconds in found.items()}
    lines = [title, f"{'':44}{'us / image':>12}{'ratio':>8}{'spread':>8}"]
    for name, seconds in found.items():
        ratio, spread = middle[name] / middle[ours], max(seconds) / min(seconds)
        lines.append(f"{name:44}{middle[name]:12.1f}{ratio:8.1f}{spread:8.2f}")
    return lines
