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
from typing import Any

from clbench.errors import ClbenchError
from clbench.metrics import INTRANSIGENCE, METRICS, Interval, interval, intransigence
from clbench.record import Phase, Record, Status
from clbench.report import wording
from clbench.report.quantities import COSTS, probes


@dataclass(frozen=True)
class Row:
    """Runs of one strategy that differ in the seed only.

    Attributes:
        label: name of the strategy, and the fields in which rows of that name differ.
        records: in the order of their seeds.
        values: of each quantity, one number per record; NaN = undefined for it.
    """

    label: str
    records: tuple[Record, ...]
    values: Mapping[str, tuple[float, ...]]

    @property
    def strategy(self) -> str:
        """Name of the strategy."""
        return self.records[0].strategy

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
        score = self.records[0].selection.tuning_score
        return math.nan if score is None else score

    @property
    def tuning_runs(self) -> int:
        """Runs that chose the hyper-parameters."""
        return len({run for record in self.records for run in record.selection.tuning_runs})

    def interval(self, name: str, level: float = 0.95) -> Interval:
        """Mean and t-interval of a quantity over the seeds."""
        return interval(self.values[name], level)


@dataclass(frozen=True)
class Block:
    """Rows that may be compared with each other."""

    title: str
    rows: tuple[Row, ...]

    @property
    def first(self) -> Record:
        """Any one of the runs: in what makes a block they are all alike."""
        return self.rows[0].records[0]

    @property
    def records(self) -> tuple[Record, ...]:
        """All runs of all rows."""
        return tuple(record for row in self.rows for record in row.records)


def blocks(records: Iterable[Record], upper_bound: str = "joint", source: str = "these records") -> tuple[Block, ...]:
    """Group the evaluation runs that have come to an end.

    Args:
        records: of any kind.
        upper_bound: name of the strategy that intransigence is measured against.
        source: where the records came from, for the message.

    Raises:
        ClbenchError: no evaluation run has come to an end.
    """
    finished = [r for r in records if r.phase is Phase.EVALUATION and r.status is not Status.RUNNING]
    if not finished:
        raise ClbenchError(f"no finished evaluation runs in {source}; make some with `clbench run`")
    groups = _grouped(finished, _block_fields)
    heads = [group[0] for group in groups]
    titles = wording.distinct([wording.title(r) for r in heads], [_block_fields(r) for r in heads])
    return tuple(Block(title, _rows(group, upper_bound)) for title, group in zip(titles, groups, strict=True))


def unfinished(records: Iterable[Record]) -> int:
    """Evaluation runs that are begun and not finished, which no table holds."""
    return sum(r.phase is Phase.EVALUATION and r.status is Status.RUNNING for r in records)


def _rows(records: Sequence[Record], upper_bound: str) -> tuple[Row, ...]:
    groups = _grouped(records, _row_fields)
    heads = [group[0] for group in groups]
    levels = ([read(r) for r in heads] for read in (lambda r: r.strategy_config, _adapter, _how))
    labels = wording.distinct([r.strategy for r in heads], *levels)
    # Peers of one seed may have learnt other data where data changed between runs: hence the digest.
    references = {(r.data_digest, r.seed): r for r in records if r.strategy == upper_bound}
    return tuple(
        Row(label, tuple(group), _values(group, references)) for label, group in zip(labels, groups, strict=True)
    )


def _values(records: Sequence[Record], references: Mapping[tuple[str, int], Record]) -> dict[str, tuple[float, ...]]:
    def lag(record: Record) -> float:
        reference = references.get((record.data_digest, record.seed))
        return math.nan if reference is None else intransigence(record, reference)

    measured = METRICS | COSTS | probes(records[0])
    values = {name: tuple(m.function(r) for r in records) for name, m in measured.items()}
    return values | {INTRANSIGENCE.name: tuple(lag(r) for r in records)}


def _grouped(records: Iterable[Record], fields: Callable[[Record], Mapping[str, Any]]) -> list[list[Record]]:
    """Records with equal fields together, each group ordered by seed, groups by name and then by fields."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(json.dumps(fields(record), sort_keys=True), []).append(record)
    return [sorted(groups[key], key=lambda r: (r.seed, r.run)) for key in sorted(groups)]


def _block_fields(record: Record) -> dict[str, Any]:
    """What makes two runs comparable, as plain values."""
    return {
        "scenario": record.scenario,
        "version": record.scenario_version,
        "setting": record.setting.value,
        "part": record.part.value,
        "split_seed": record.split_seed,
        "swapped": record.swapped,
        "protocol": record.protocol,
        **{f"scenario.{name}": value for name, value in record.scenario_config.items()},
        **{f"model.{name}": value for name, value in record.model_config.items() if name != "adapter"},
    }


def _row_fields(record: Record) -> dict[str, Any]:
    """What makes two comparable runs seeds of one row, as plain values."""
    return {"name": record.strategy, "config": record.strategy_config, "how": _how(record) | _adapter(record)}


def _adapter(record: Record) -> dict[str, Any]:
    """The low-rank adapters that a run trained."""
    return {f"adapter.{name}": value for name, value in record.model_config.get("adapter", {}).items()}


def _how(record: Record) -> dict[str, Any]:
    """What makes two runs of one strategy and config different rows all the same."""
    selection = record.selection
    return {
        "version": record.strategy_version,
        "device": record.environment.device,
        "selected_by": selection.by,
        "criterion": selection.criterion,
        "trials": selection.trials,
        "tuning_seeds": list(selection.tuning_seeds),
        "tuning_table": selection.tuning_table[:8],
    }
