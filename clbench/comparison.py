"""Runs against published numbers: for each number what was measured, how far the two may differ, and the verdict.

A group of runs that differ in the seed only (`clbench.report.grouping`) answers a published row where each of the row's
cells `scenario`, `model`, `protocol` and `strategy` has the group's name and every field that the cell names has the
cell's value; ``path`` is compared by its last part. Nothing is matched by likeness. Two groups that answer the same row
give no verdict: the row has to say more, or one of them has to go.

The tolerance comes from the spread over seeds, at a confidence of 95 %. With means m, standard deviations s (ddof = 1)
and n seeds, ours and theirs (their n = 1 where it is not printed), and t the quantile of Student's distribution:

    both have a spread      t(nu) sqrt(s^2 / n + s'^2 / n')                       Welch 1947
                            nu = (s^2/n + s'^2/n')^2 / ((s^2/n)^2 / (n-1) + (s'^2/n')^2 / (n'-1))
    ours only, n >= 2       t(n - 1) s sqrt(1/n + 1/n')                           their mean as new draws of ours
    theirs only             t(n' - 1) s' sqrt(1/n + 1/n')                         our mean as new draws of theirs
    neither                 no verdict: one run against one number says nothing

and on top of it half a unit of the published value's last place. The two in the middle take the other side's spread to
be the same. One row in twenty falls outside though nothing is wrong; a wide spread lets a bad copy pass, so say n.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from clbench.metrics import Interval, interval, seen_accuracy
from clbench.record import Record
from clbench.report import wording
from clbench.report.entry import Reportable, gathered
from clbench.report.grouping import Row, blocks
from clbench.report.quantities import QUANTITIES
from clbench.reported import Conditions, Reported, conditions

LEVEL = 0.95
TELLING = ("path", "source")  # fields that name data
CURVE = re.compile(r"seen_accuracy_after_([1-9]\d*)")
NEEDS = {"scenario": "; it needs that data", "model": "; it may need published weights and a GPU"}


class Verdict(Enum):
    """What comes of a published number."""

    WITHIN = "within"
    OUTSIDE = "outside"
    UNDECIDED = "undecided"  # measured, and nothing says how far the two may differ
    MISSING = "missing"  # nothing was measured to set beside it


@dataclass(frozen=True)
class Comparison:
    """One published number and what stands beside it.

    Attributes:
        reported: the published row.
        verdict: see `Verdict`.
        measured: mean and spread over our seeds; None where no runs answer the row.
        tolerance: how far the means may differ, in the metric's unit; NaN without a verdict.
        reason: why there is no verdict; empty where there is one.
    """

    reported: Reported
    verdict: Verdict
    measured: Interval | None = None
    tolerance: float = math.nan
    reason: str = ""

    @property
    def difference(self) -> float:
        """Measured - reported; NaN where nothing was measured."""
        return math.nan if self.measured is None else self.measured.mean - self.reported.value


def compare(reported: Iterable[Reported], measured: Reportable) -> tuple[Comparison, ...]:
    """Every published number beside the evaluation runs that have come to an end."""
    runs = gathered(measured)
    groups = [row for block in blocks(runs) for row in block.rows] if runs.entries else []
    described = [(row, _described(row.records[0])) for row in groups]
    return tuple(_compared(row, described) for row in reported)


def tolerance(measured: Interval, reported: Reported) -> float:
    """How far the two means may differ, by the rule at the head of this module; NaN where neither has a spread."""
    # scipy is slow to import, and not every comparison gets this far.
    from scipy.special import stdtrit

    n, theirs = measured.n, reported.n or 1
    ours_known, theirs_known = n > 1, reported.spread is not None and theirs > 1
    spread = reported.spread or 0.0
    if ours_known and theirs_known:
        a, b = measured.std**2 / n, spread**2 / theirs
        freedom = (a + b) ** 2 / (a**2 / (n - 1) + b**2 / (theirs - 1)) if a + b else 1.0
        error = math.sqrt(a + b)
    elif ours_known or theirs_known:
        freedom = (n if ours_known else theirs) - 1.0
        error = (measured.std if ours_known else spread) * math.sqrt(1 / n + 1 / theirs)
    else:
        return math.nan
    return float(stdtrit(freedom, (1 + LEVEL) / 2)) * error + reported.rounding


def _compared(reported: Reported, groups: Sequence[tuple[Row, Mapping[str, Conditions]]]) -> Comparison:
    missing = functools.partial(Comparison, reported, Verdict.MISSING)
    if not (reported.metric in QUANTITIES or reported.metric.startswith("probe.") or CURVE.fullmatch(reported.metric)):
        return missing(reason="clbench does not compute that metric")
    for kind in ("scenario", "model", "protocol", "strategy"):
        asked = conditions(getattr(reported, kind))
        answering = [(row, described) for row, described in groups if not _unmet(asked, described[kind])]
        if not answering:
            return missing(reason=_why_none(kind, asked, [described[kind] for _, described in groups]))
        groups = answering
    if len(groups) > 1:
        labels = ", ".join(row.label for row, _ in groups)
        return Comparison(
            reported,
            Verdict.UNDECIDED,
            reason=f"{len(groups)} groups of runs answer it ({labels}); name more fields in it, or give fewer runs",
        )
    measured = interval(_values(reported.metric, groups[0][0]), LEVEL)
    if not measured.n:
        return missing(reason=f"{reported.metric} is not defined for these runs, or was not measured")
    allowed = tolerance(measured, reported)
    if math.isnan(allowed):
        return Comparison(
            reported, Verdict.UNDECIDED, measured, reason="one run against one number; run more seeds (protocol.seeds)"
        )
    within = abs(measured.mean - reported.value) <= allowed
    return Comparison(reported, Verdict.WITHIN if within else Verdict.OUTSIDE, measured, allowed)


def _described(record: Record) -> dict[str, Conditions]:
    """What published cells are held against."""
    part = {"part": record.part.name.lower(), "split_seed": record.split_seed, "swapped": record.swapped}
    return {
        "scenario": Conditions(record.scenario, wording.flat(record.scenario_config)),
        "model": Conditions(str(record.model_config.get("name")), wording.flat(record.model_config)),
        "protocol": Conditions(record.protocol, part),
        "strategy": Conditions(record.strategy, wording.flat(record.strategy_config)),
    }


def _unmet(asked: Conditions, found: Conditions) -> list[str]:
    """What a description has otherwise than asked; empty where it answers."""
    if asked.name != found.name:
        return [asked.name]
    return [field for field, value in asked.fields.items() if not _same(field, value, found.fields)]


def _same(field: str, value: Any, found: Mapping[str, Any]) -> bool:
    if field == "path":
        return Path(str(found.get(field))).name == str(value)
    return field in found and bool(found[field] == value)


def _why_none(kind: str, asked: Conditions, found: Sequence[Conditions]) -> str:
    named = [described for described in found if described.name == asked.name]
    if not named:
        others = ", ".join(sorted({described.name for described in found})) or "none"
        where = "".join(f" {field}={asked.fields[field]}" for field in TELLING if field in asked.fields)
        return f"no run of {kind} {asked.name}{where} (there: {others}){NEEDS.get(kind, '')}"
    nearest = min(named, key=lambda described: len(_unmet(asked, described)))
    fields = _unmet(asked, nearest)
    there, wanted = (", ".join(_told(c, field) for field in fields) for c in (nearest, asked))
    return f"runs of {kind} {asked.name} have {there}, not {wanted}"


def _told(found: Conditions, field: str) -> str:
    return f"{field}={json.dumps(found.fields[field])}" if field in found.fields else f"no {field}"


def _values(metric: str, row: Row) -> Sequence[float]:
    """The metric of each seed's run; NaN where it is not defined."""
    if found := CURVE.fullmatch(metric):
        curves = [seen_accuracy(record) for record in row.whole()]
        after = int(found[1])
        return [float(curve[after - 1]) if after <= len(curve) else math.nan for curve in curves]
    return row.values.get(metric, (math.nan,) * len(row.records))
