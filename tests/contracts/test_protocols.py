"""What every protocol must do, run over every protocol that is found."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path

import pytest

from clbench import engine
from clbench.models.config import ModelConfig
from clbench.protocol import Study, protocols
from clbench.record import Part, Phase, Record, Status
from clbench.run import Run
from clbench.scenario import scenarios
from clbench.strategy import strategies


@pytest.mark.parametrize("name", protocols.names())
def test_it_does_what_it_planned_and_reports_evaluation_runs_only(name: str, tmp_path: Path) -> None:
    done: list[Run] = []

    def submit(run: Run) -> Future[Record]:
        done.append(run)
        future: Future[Record] = Future()
        future.set_result(engine.execute(run))
        return future

    cls, config = protocols.load(name)
    small = {field: value for field, value in {"trials": 2, "seeds": [0, 1]}.items() if hasattr(config(), field)}
    protocol = cls(config(**small))
    _, scenario = scenarios.load("digits")
    _, strategy = strategies.load("naive")
    study = Study(scenario(), strategy(epochs=1), ModelConfig("small_cnn", width=4), "cpu", tmp_path)
    planned = protocol.plan(study)
    assert not any(tmp_path.iterdir()), "planning computes nothing"
    records = protocol.carry_out(study, submit)
    assert len(done) == sum(stage.runs for stage in planned)
    assert {record.phase for record in records} == {Phase.EVALUATION}
    assert {record.status for record in records} == {Status.FINISHED}
    assert Part.TUNING_HALF not in {record.part for record in records}
    assert len({record.seed for record in records}) == len(records) == 2
    assert {record.protocol for record in records} == {name}
