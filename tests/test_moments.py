from __future__ import annotations

import math

import pytest

from clbench.metrics import METRICS
from clbench.moments import at, final, hyperparameters, so_far
from clbench.record import ProbeMeasurement, Setting, Status
from tests.conftest import MakeRecord


def test_a_moment_tells_what_was_measured_then_and_nothing_that_came_later(make_record: MakeRecord) -> None:
    found = make_record(((90,), (60, 80), (50, 70, 90)), totals=[100, 100, 200])
    assert at(found, 1) == {
        "accuracy/experience_0": 90.0,
        "accuracy/seen": 90.0,
        "learning_accuracy": 90.0,
        "cost/learn_seconds": 1.5,
        "cost/peak_bytes": 2e6,
        "cost/stored_bytes": 64000.0,
    }
    second = at(found, 2)
    assert second["accuracy/seen"] == 70.0
    assert second["forgetting"] == 30.0
    assert second["learning_accuracy"] == 85.0
    assert at(found, 3)["accuracy/seen"] == 100 * (50 + 70 + 90) / 400
    assert at(found, 3)["accuracy/experience_2"] == 45.0
    assert at(found, 0) == {}


def test_the_last_moment_is_the_whole_run(make_record: MakeRecord) -> None:
    found = make_record(((90,), (60, 80), (50, 70, 90)))
    for metric in METRICS.values():
        whole, cut = metric.function(found), metric.function(so_far(found, 3))
        assert cut == whole or (math.isnan(cut) and math.isnan(whole))
    assert at(found, 3)["forgetting"] == final(found)["final/forgetting_max_prev"]


def test_what_was_asked_before_any_training_is_moment_0(make_record: MakeRecord) -> None:
    probes = [ProbeMeasurement(t, "facts", "accuracy", 10.0 - t, 10) for t in range(3)]
    texts = [ProbeMeasurement(t, "story", "log_likelihood", -2.0 * (t + 1), 2) for t in range(3)]
    found = make_record(
        ((90,), (60, 80)), before=(10, 20), setting=Setting.INSTRUCTION, probes=(*probes, *texts), totals=[100, 100]
    )
    first = at(found, 0)
    assert (first["accuracy/experience_0"], first["accuracy/experience_1"]) == (10.0, 20.0)
    assert first["probe/facts"] == 100.0
    assert first["probe/story"] == pytest.approx(math.e)
    assert at(found, 2)["probe/story"] == pytest.approx(math.exp(3))
    assert final(found)["final/probe.facts"] == 80.0


def test_nothing_is_made_up_for_a_run_that_diverged(make_record: MakeRecord) -> None:
    found = make_record(((90,),), totals=[100, 100, 100], status=Status.DIVERGED)
    assert [name for name in at(found, 1) if name.startswith("accuracy")] == ["accuracy/experience_0", "accuracy/seen"]
    assert final(found)["final/last_accuracy"] == pytest.approx(100 / 6)  # there a run must have a number: chance


def test_hyperparameters_are_keys_of_the_command_line(make_record: MakeRecord) -> None:
    told = hyperparameters(make_record(strategy_config={"lr": 0.1, "memory": {"capacity": 5}}, seed=3))
    assert (told["strategy.lr"], told["strategy.memory.capacity"], told["seed"]) == (0.1, 5, 3)
    assert (told["scenario"], told["scenario.increment"], told["model.name"]) == ("digits", 2, "small_cnn")
