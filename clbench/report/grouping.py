"""Which runs stand in one table, and which of them are one row.

A block holds runs that may be compared: same scenario and classes, same model, same protocol. A row of it holds runs
that differ in nothing but the seed; whether all weights trained or low-rank adapters is a row's own. Only evaluation
runs are ever grouped; what was tuned on stays out of every mean.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from clbench.errors import ClbenchError
from clbench.metrics import INTRANSIGENCE, Interval, Quantity, interval, intransigence
from clbench.record import Record, Status
from clbench.report import wording
from clbench.report.entry import Entry, Reportable, adapter, block_fields, gathered, how, row_fields
from clbench.report.quantities import QUANTITIES, of_probes
from clbench.report.view import USUAL, View


@dataclass(frozen=True)
class Row:
    """Runs of one strategy that differ in the seed only.

    Attributes:
        label: name of the strategy, and the fields in which rows of that name differ.
        entries: of its runs, in the order of their seeds.
        values: of each quantity, one number per record; NaN = undefined for it.
    """

    label: str
    entries: tuple[Entry, ...]
    values: Mapping[str, tuple[float, ...]]

    @property
    def records(self) -> tuple[Record, ...]:
        """What describes the runs, without what was measured."""
        return tuple(entry.record for entry in self.entries)

    def whole(self) -> tuple[Record, ...]:
        """The runs' records with all that was measured."""
        return tuple(entry.whole() for entry in self.entries)

    @cached_property
    def probed(self) -> dict[str, str]:
        """Unit of each probe, by its name."""
        return {name: unit for entry in self.entries for name, unit in entry.probed.items()}

    @property
    def strategy(self) -> str:
        """Name of the strategy."""
        return self.entries[0].record.strategy

    @property
    def seeds(self) -> tuple[int, ...]:
        """Evaluation seeds."""
        return tuple(record.seed for record in self.records)

    @property
    def diverged(self) -> int:
        """Runs that diverged; they are in every mean, at chance."""
        return sum(record.status is Status.DIVERGED for record in self.records)

    @property
    def tuning_score(self) -> float:
        """Score of the hyper-parameters on the tuning half; NaN where they were given."""
        score = self.entries[0].record.selection.tuning_score
        return math.nan if score is None else score

    @property
    def tuning_runs(self) -> int:
        """Runs that chose the hyper-parameters."""
        return len({run for record in self.records for run in record.selection.tuning_runs})

    def interval(self, name: str, level: float = 0.95) -> Interval:
        """Mean and t-interval of a quantity over the seeds."""
        return interval(self.values.get(name, ()), level)


@dataclass(frozen=True)
class Block:
    """Rows that may be compared with each other."""

    title: str
    rows: tuple[Row, ...]

    @property
    def first(self) -> Record:
        """Any one of the runs: in what makes a block they are all alike."""
        return self.rows[0].entries[0].record

    @cached_property
    def quantities(self) -> dict[str, Quantity]:
        """All that is averaged over the seeds of its rows, by its name."""
        return {**QUANTITIES, **of_probes({name: unit for row in self.rows for name, unit in row.probed.items()})}

    @property
    def records(self) -> tuple[Record, ...]:
        """All runs of all rows."""
        return tuple(record for row in self.rows for record in row.records)


def blocks(reported: Reportable, view: View = USUAL) -> tuple[Block, ...]:
    """Group the evaluation runs that have come to an end.

    Args:
        reported: runs that were found, or records of any kind.
        view: names the upper bound, and the source for the message.

    Raises:
        ClbenchError: no evaluation run has come to an end.
    """
    runs = gathered(reported)
    if not runs.entries:
        why = "".join(f"\n{fault}" for fault in runs.faults)
        raise ClbenchError(f"no finished evaluation runs in {view.source}; make some with `clbench run`{why}")
    groups = _grouped(runs.entries, lambda entry: entry.block, block_fields)
    heads = [group[0] for group in groups]
    titles = wording.distinct([head.title for head in heads], [block_fields(head.record) for head in heads])
    return tuple(Block(title, _rows(group, view.upper_bound)) for title, group in zip(titles, groups, strict=True))


def _rows(entries: Sequence[Entry], upper_bound: str) -> tuple[Row, ...]:
    groups = _grouped(entries, lambda entry: entry.row, row_fields)
    heads = [group[0].record for group in groups]
    levels = ([read(r) for r in heads] for read in (lambda r: r.strategy_config, adapter, how))
    labels = wording.distinct([r.strategy for r in heads], *levels)
    # Peers of one seed may have learnt other data where data changed between runs: hence the digest.
    references = {_data(entry): entry for entry in entries if entry.record.strategy == upper_bound}
    return tuple(
        Row(label, tuple(group), _values(group, references)) for label, group in zip(labels, groups, strict=True)
    )


def _values(entries: Sequence[Entry], references: Mapping[tuple[str, int], Entry]) -> dict[str, tuple[float, ...]]:
    names = dict.fromkeys(name for entry in entries for name in entry.values)
    values = {name: tuple(entry.values.get(name, math.nan) for entry in entries) for name in names}
    peers = (references.get(_data(entry)) for entry in entries)
    joint = (math.nan if peer is None else peer.values["learning_accuracy"] for peer in peers)
    return values | {INTRANSIGENCE.name: tuple(map(intransigence, values["learning_accuracy"], joint))}


def _data(entry: Entry) -> tuple[str, int]:
    """What a run learnt, and in which order."""
    return entry.record.data_digest, entry.record.seed


def _grouped(
    entries: Iterable[Entry], key: Callable[[Entry], str], fields: Callable[[Record], Mapping[str, Any]]
) -> list[list[Entry]]:
    """Entries with equal keys together, each group ordered by seed, groups by the fields that the key stands for."""
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(key(entry), []).append(entry)
    ordered = sorted(groups.values(), key=lambda group: json.dumps(fields(group[0].record), sort_keys=True))
    return [sorted(group, key=lambda e: (e.record.seed, e.record.run)) for group in ordered]
