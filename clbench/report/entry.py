"""A run as tables see it: what describes it and what it came to, without the counts that say so."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

from clbench import record as records
from clbench.errors import ClbenchError
from clbench.metrics import METRICS
from clbench.record import Phase, Record, Status
from clbench.report import wording
from clbench.report.quantities import COSTS, last_scores

OWN = ("run", "seed", "asked", "data_digest", "state_digest", "started")
"""What seeds of one row do not share."""


@dataclass(frozen=True)
class Entry:
    """One evaluation run that has come to an end.

    Attributes:
        record: of the run, without experiences, measurements, probes, costs and notes.
        title: of the block that the run belongs to, before titles are told apart.
        block: digest of what makes it comparable, equal for all runs of a table.
        row: digest of what makes it one learner's, equal for its seeds.
        experiences: how many there were.
        values: every metric, cost and probe by its name; NaN = undefined.
        probed: unit of each probe, by the probe's name.
        counts: digest of what was measured.
        path: of ``record.json``; None for a run that was never written.
    """

    record: Record
    title: str
    block: str
    row: str
    experiences: int
    values: Mapping[str, float]
    probed: Mapping[str, str]
    counts: str
    path: Path | None = None
    _whole: Record | None = field(default=None, repr=False, compare=False)

    def whole(self) -> Record:
        """The record with all that was measured, read again where only the path is known.

        Raises:
            ClbenchError: it is no longer where it was found, or can no longer be read.
        """
        found = self._whole or (records.read(self.path.parent) if self.path else None)
        if found is None:
            raise ClbenchError(f"the record of run {self.record.run} is gone from {self.path}; make the report again")
        return found


def entry(record: Record, path: Path | None = None) -> Entry:
    """A finished run's entry.

    Args:
        record: of a run that has come to an end.
        path: of its ``record.json``; without it the entry holds the record.
    """
    measured = [*map(dataclasses.astuple, record.measurements), *map(dataclasses.astuple, record.probes)]
    return Entry(
        record=replace(record, experiences=(), measurements=(), probes=(), costs=(), notes={}),
        title=wording.title(record),
        block=_digest(block_fields(record)),
        row=_digest(row_fields(record)),
        experiences=len(record.experiences),
        values={name: metric.function(record) for name, metric in (METRICS | COSTS).items()} | last_scores(record),
        probed={one.probe: one.unit for one in record.probes},
        counts=_digest(measured),
        path=path,
        _whole=None if path else record,
    )


def to_json(one: Entry) -> str:
    """The entry as text, without its path."""
    plain = {field.name: getattr(one, field.name) for field in dataclasses.fields(one)}
    raw = json.loads(records.to_json(one.record))
    own = {name: raw.pop(name) for name in OWN}
    return json.dumps(plain | {"record": own, "path": None, "_whole": None, "shared": json.dumps(raw)})


def from_json(text: str, path: Path) -> Entry:
    """The entry that `to_json` wrote, of the record at ``path``."""
    raw = json.loads(text)
    shared = _shared(raw.pop("shared"))
    return Entry(**raw | {"record": replace(shared, **raw["record"]), "path": path})


@functools.lru_cache(maxsize=10_000)
def _shared(text: str) -> Record:
    """What seeds of one row share, read once for all of them."""
    return records.from_plain(json.loads(text) | dict.fromkeys(OWN))


def _digest(plain: object) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Runs:
    """What reports are made of.

    Attributes:
        entries: evaluation runs that have come to an end, each once.
        unfinished: how many are begun and not finished, which no table holds.
        faults: a line for each file that had to be left out, or that contradicts another.
    """

    entries: tuple[Entry, ...]
    unfinished: int = 0
    faults: tuple[str, ...] = ()

    @property
    def left_out(self) -> tuple[str, ...]:
        """A sentence for each thing that is not in the tables."""
        begun = (f"Left out: {wording.count(self.unfinished, 'unfinished run')}",) if self.unfinished else ()
        return (*begun, *(f"Left out: {fault}" for fault in self.faults))


Reportable: TypeAlias = "Runs | Iterable[Record]"
"""What reports can be made of: runs that were found on disk, or records at hand."""


def gathered(reported: Reportable) -> Runs:
    """Records at hand as `Runs`; tuning runs are left out without a word."""
    if isinstance(reported, Runs):
        return reported
    asked = [record for record in reported if record.phase is Phase.EVALUATION]
    ended = [record for record in asked if record.status is not Status.RUNNING]
    return Runs(tuple(entry(record) for record in ended), len(asked) - len(ended))


def contradictions(entries: Sequence[Entry]) -> tuple[str, ...]:
    """A line for each run that was measured otherwise under the same name, which names both places."""
    first: dict[str, Entry] = {}
    found = []
    for one in entries:
        other = first.setdefault(one.record.run, one)
        if other.counts != one.counts:
            found.append(f"{one.path} measured other counts than {other.path} under one name; the latter is shown")
    return tuple(found)


def block_fields(record: Record) -> dict[str, Any]:
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


def row_fields(record: Record) -> dict[str, Any]:
    """What makes two comparable runs seeds of one row, as plain values."""
    return {"name": record.strategy, "config": record.strategy_config, "how": how(record) | adapter(record)}


def adapter(record: Record) -> dict[str, Any]:
    """The low-rank adapters that a run trained."""
    return {f"adapter.{name}": value for name, value in record.model_config.get("adapter", {}).items()}


def how(record: Record) -> dict[str, Any]:
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
