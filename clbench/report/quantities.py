"""What is averaged over seeds: the metrics, and what a run cost."""

from __future__ import annotations

import math
from collections.abc import Mapping

from clbench.metrics import INTRANSIGENCE, METRICS, Metric, Quantity, probe_scores
from clbench.record import Record


def learn_seconds(record: Record) -> float:
    """Seconds spent in the strategy, all experiences together."""
    return sum(c.learn_seconds for c in record.costs) if _learnt_all(record) else math.nan


def peak_bytes(record: Record) -> float:
    """Largest memory of any experience; NaN where it was not measured."""
    peaks = [c.peak_bytes for c in record.costs if c.peak_bytes is not None]
    return float(max(peaks)) if peaks and _learnt_all(record) else math.nan


def stored_bytes(record: Record) -> float:
    """Most that was kept for later experiences, the model apart."""
    return float(max(c.stored_bytes for c in record.costs)) if _learnt_all(record) else math.nan


def parameters(record: Record) -> float:
    """Most parameters that the learner had."""
    return float(max(c.parameters for c in record.costs)) if _learnt_all(record) else math.nan


def _learnt_all(record: Record) -> bool:
    return 0 < len(record.experiences) == record.learnt


COSTS: dict[str, Metric] = {
    cost.name: cost
    for cost in (
        Metric("learn_seconds", "Learning time", False, "s", learn_seconds),
        Metric("peak_bytes", "Peak memory", False, "B", peak_bytes),
        Metric("stored_bytes", "Stored state", False, "B", stored_bytes),
        Metric("parameters", "Parameters", False, "", parameters),
    )
}
"""Costs of a whole run, by their names; NaN for a run that diverged on the way, whose cost would look small."""


PROBES = (("gain", True, "%"), ("residue", False, "%"), ("accuracy", True, "%"), ("log_likelihood", False, ""))
"""Units of probes in the order of their columns: whether more is better, and the unit that is printed."""


def last_scores(record: Record) -> dict[str, float]:
    """Every probe after the last experience, as ``probe.NAME``: percent, or perplexity."""
    names = dict.fromkeys(one.probe for one in record.probes)
    return {f"probe.{name}": float(probe_scores(record, name)[-1]) for name in names}


def of_probes(units: Mapping[str, str]) -> dict[str, Quantity]:
    """What the probes of these units come to, by ``probe.NAME``, in the order in which tables show them."""
    found = {}
    for unit, better, sign in PROBES:
        for name in (name for name, its in units.items() if its == unit):
            title = name.replace("_", " ").capitalize()
            found[f"probe.{name}"] = Quantity(f"probe.{name}", title, better, sign)
    return found


QUANTITIES: dict[str, Quantity] = {**METRICS, INTRANSIGENCE.name: INTRANSIGENCE, **COSTS}
"""Everything that is averaged over seeds, by its name, but for those `of_probes`."""
