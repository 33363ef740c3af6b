"""Published curves give the published averages through our metrics."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clbench.metrics import METRICS
from tests.conftest import MakeRecord

REPORTED = json.loads((Path(__file__).parent.parent / "results" / "reported" / "mos.json").read_text())
RUNS = REPORTED["runs"]


@pytest.mark.parametrize("run", RUNS, ids=lambda run: f"{run['setting']} {run['weights']}")
def test_the_average_and_the_last_accuracy_follow_from_the_curve(run: dict[str, Any], make_record: MakeRecord) -> None:
    curve = run["accuracy_after_each_experience"]
    counts = [[round(100 * value)] * (stage + 1) for stage, value in enumerate(curve)]
    record = make_record(counts, totals=[10_000] * len(curve))
    average = METRICS["average_incremental_accuracy"].function(record)
    last = METRICS["last_accuracy"].function(record)
    assert average == pytest.approx(run["average_incremental_accuracy"], abs=0.0051)
    assert last == pytest.approx(run["last_accuracy"], abs=0.0051)
