"""Records as tidy pandas DataFrames: one row per run, or one row per group of seeds and metric."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import pandas as pd

from clbench.record import Setting
from clbench.report import wording
from clbench.report.entry import Reportable
from clbench.report.grouping import Block, Row, blocks
from clbench.report.view import USUAL, View


def runs(reported: Reportable, view: View = USUAL) -> pd.DataFrame:
    """One row per evaluation run that has come to an end; metrics and costs are columns, undefined ones NaN.

    Args:
        reported: runs that were found, or records of any kind.
        view: names the upper bound, and the source for the message.

    Raises:
        ClbenchError: no evaluation run has come to an end.
    """
    rows = [
        _conditions(block, row)
        | {"run": record.run, "seed": record.seed, "status": record.status.value, "commit": record.environment.commit}
        | {name: row.values[name][i] if name in row.values else math.nan for name in block.quantities}
        for block in blocks(reported, view)
        for row in block.rows
        for i, record in enumerate(row.records)
    ]
    return pd.DataFrame(rows)


def aggregated(reported: Reportable, view: View = USUAL) -> pd.DataFrame:
    """One row per group of seeds and quantity: mean, sample std, limits of the 95 % t-interval, n defined values.

    Args:
        reported: runs that were found, or records of any kind.
        view: names the upper bound, and the source for the message.

    Raises:
        ClbenchError: no evaluation run has come to an end.
    """
    found = blocks(reported, view)
    rows = [told for block in found for row in block.rows for told in _averages(block, row)]
    return pd.DataFrame(rows)


def _averages(block: Block, row: Row) -> Iterator[dict[str, Any]]:
    """A line for each quantity."""
    before = _conditions(block, row)
    after = {"runs": len(row.entries), "diverged": row.diverged, "seeds": " ".join(map(str, row.seeds))}
    after["commit"] = " ".join(wording.commits(row.records))
    for name, quantity in block.quantities.items():
        kind = {"metric": name, "unit": quantity.unit, "higher_is_better": quantity.higher_is_better}
        yield before | kind | row.interval(name)._asdict() | after


def _conditions(block: Block, row: Row) -> dict[str, Any]:
    """What the runs of a row have in common."""
    record = row.records[0]
    return {
        "block": block.title,
        "scenario": record.scenario,
        "scenario_version": record.scenario_version,
        "scenario_config": _json(record.scenario_config),
        "setting": record.setting.value,
        "experiences": row.entries[0].experiences,
        **({"access": record.access} if record.setting is Setting.EDITING else {}),
        "part": record.part.value,
        "split_seed": record.split_seed,
        "swapped": record.swapped,
        "model": _json(record.model_config),
        "protocol": record.protocol,
        "strategy": record.strategy,
        "strategy_version": record.strategy_version,
        "strategy_config": _json(record.strategy_config),
        "label": row.label,
        "device": record.environment.device,
        "selected_by": record.selection.by,
        "tuning_criterion": record.selection.criterion,
        "tuning_score": row.tuning_score,
        "tuning_runs": row.tuning_runs,
    }


def _json(config: dict[str, Any]) -> str:
    return json.dumps(config, sort_keys=True)
