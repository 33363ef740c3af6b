"""What the runs of one table do not have in common, though nobody asked for a comparison of it."""

from __future__ import annotations

from collections.abc import Callable

from clbench.record import Record
from clbench.report import wording
from clbench.report.grouping import Block

NAMED = 3  # values that are listed; more are counted

CONDITIONS: dict[str, Callable[[Record], str]] = {
    "how hyper-parameters were chosen": lambda record: record.selection.by,
    "tuning budget": wording.budget,
    "tuning criterion": lambda record: record.selection.criterion or "none",
    "tuning seeds": lambda record: wording.seeds(record.selection.tuning_seeds) or "none",
    "commit": lambda record: record.environment.commit or "unknown",
    "clbench": lambda record: record.environment.clbench,
    "torch": lambda record: record.environment.packages.get("torch", "unknown"),
    "device": lambda record: record.environment.device,
}
"""By their names: what else may make two rows differ."""


def unlike(block: Block) -> str:
    """The conditions in which runs differ, and seeds whose data do; empty where there are none."""
    parts = [
        f"{name} ({_told(values)})"
        for name, read in CONDITIONS.items()
        if len(values := sorted({read(record) for record in block.records})) > 1
    ]
    seeds = _torn(block)
    parts += [f"data (of seed {wording.seeds(seeds)})"] * bool(seeds)
    return f"Not the same in all runs: {', '.join(parts)}" if parts else ""


def _told(values: list[str]) -> str:
    return " / ".join(values) if len(values) <= NAMED else f"{len(values)} of them"


def _torn(block: Block) -> list[int]:
    """Seeds under which not all rows learnt the same data in the same order."""
    digests: dict[int, set[str]] = {}
    for record in block.records:
        digests.setdefault(record.seed, set()).add(record.data_digest)
    return [seed for seed, found in digests.items() if len(found) > 1]
