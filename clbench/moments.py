"""What a record tells of each moment of its run, by the names under which trackers log it.

A moment is a number of experiences learnt. Of each:

- ``accuracy/experience_J``: percent right on experience J, counted from 0; ``accuracy/seen``: on all seen together;
- ``forgetting``: `clbench.metrics.forgetting_max_prev` of the run so far; ``learning_accuracy``, likewise;
- ``probe/NAME``: percent, or perplexity;
- ``cost/learn_seconds``, ``cost/peak_bytes``, ``cost/stored_bytes``: of the experience just learnt.

And of a run that has ended ``final/NAME``: metrics, costs and probes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from clbench.metrics import METRICS, accuracy_matrix, initial_accuracies, probe_scores, seen_accuracy
from clbench.record import Record, Status
from clbench.report import wording
from clbench.report.quantities import COSTS, last_scores

SO_FAR = {"forgetting": "forgetting_max_prev", "learning_accuracy": "learning_accuracy"}


def at(found: Record, moment: int) -> dict[str, float]:
    """What a record tells of a moment: by the names above, without what is undefined."""
    found = replace(found, status=Status.FINISHED)  # or what a diverged run did not measure would count as chance
    accuracies = accuracy_matrix(found)[moment - 1] if moment else initial_accuracies(found)
    values = {f"accuracy/experience_{j}": float(value) for j, value in enumerate(accuracies)}
    if moment:
        past = so_far(found, moment)
        values["accuracy/seen"] = float(seen_accuracy(past)[-1])
        values |= {name: METRICS[metric].function(past) for name, metric in SO_FAR.items()}
        values |= _costs(found, moment)
    names = dict.fromkeys(entry.probe for entry in found.probes)
    values |= {f"probe/{name}": float(probe_scores(found, name)[moment]) for name in names}
    return _defined(values)


def so_far(found: Record, moment: int) -> Record:
    """The record of a run that ended after so many experiences, without what lay ahead."""
    measured = (m for m in found.measurements if m.after <= moment and m.experience < moment)
    return replace(
        found,
        status=Status.FINISHED,
        experiences=found.experiences[:moment],
        measurements=tuple(measured),
        probes=tuple(p for p in found.probes if p.after <= moment),
        costs=found.costs[:moment],
    )


def final(found: Record) -> dict[str, float]:
    """Metrics, costs and probes of a run that has ended, without what is undefined."""
    values = {name: metric.function(found) for name, metric in (METRICS | COSTS).items()} | last_scores(found)
    return _defined({f"final/{name}": value for name, value in values.items()})


def _costs(found: Record, moment: int) -> dict[str, float]:
    cost = found.costs[moment - 1]
    peak = math.nan if cost.peak_bytes is None else cost.peak_bytes
    amounts = {"learn_seconds": cost.learn_seconds, "peak_bytes": peak, "stored_bytes": cost.stored_bytes}
    return {f"cost/{name}": float(amount) for name, amount in amounts.items()}


def _defined(values: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if not math.isnan(value)}


def hyperparameters(found: Record) -> dict[str, Any]:
    """Everything that a run was told, by its key on the command line."""
    told: dict[str, Any] = {"scenario": found.scenario, "strategy": found.strategy, "protocol": found.protocol}
    told |= {"phase": found.phase.value, "part": found.part.value, "seed": found.seed}
    groups = {"scenario": found.scenario_config, "strategy": found.strategy_config, "model": found.model_config}
    return told | {f"{group}.{key}": v for group, config in groups.items() for key, v in wording.flat(config).items()}
