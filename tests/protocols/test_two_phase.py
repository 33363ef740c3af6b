from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clbench import engine
from clbench.errors import ConfigError, IncompatibleError, LeakError, UnknownNameError
from clbench.metrics import METRICS, average_incremental_accuracy
from clbench.models.config import ModelConfig
from clbench.protocol import RunError, Study, gather
from clbench.protocols import two_phase
from clbench.protocols.two_phase import TwoPhase, TwoPhaseConfig
from clbench.record import Part, Phase, Record, Selection, Status
from clbench.run import Run
from clbench.scenario import scenarios
from clbench.search import search
from clbench.space import Choice, LogUniform, Sampler, ranges, starts
from clbench.strategy import strategies
from tests.learning import skip_without_package


def study(folder: Path, name: str = "naive", asked: dict[str, str] | None = None, **values: Any) -> Study:
    _, scenario = scenarios.load("digits")
    _, config = strategies.load(name)
    model = ModelConfig("small_cnn", width=4)
    return Study(scenario(), config(**{"epochs": 1} | values), model, "cpu", folder, asked=asked or {})


class Recorder:
    """Executes every run at once and remembers it."""

    def __init__(self) -> None:
        self.runs: list[Run] = []

    def submit(self, run: Run) -> Future[Record]:
        self.runs.append(run)
        future: Future[Record] = Future()
        future.set_result(engine.execute(run))
        return future


def small(**values: Any) -> TwoPhase:
    chosen: dict[str, Any] = {"trials": 3, "tuning_seeds": [100, 101], "seeds": [0, 1]} | values
    return TwoPhase(TwoPhaseConfig(**chosen))


def test_tuning_sees_the_tuning_half_only_and_only_the_evaluation_half_is_reported(tmp_path: Path) -> None:
    recorder, asked = Recorder(), study(tmp_path)
    records = small().carry_out(asked, recorder.submit)
    tuning = [run for run in recorder.runs if run.phase is Phase.TUNING]
    assert len(tuning) == 3 * 2
    assert {run.part for run in tuning} == {Part.TUNING_HALF}
    assert {run.seed for run in tuning} == {100, 101}
    assert [record.part for record in records] == [Part.EVALUATION_HALF] * 2
    assert [record.seed for record in records] == [0, 1]
    shown = {name for run in tuning for e in run.handle().open(run.seed).experiences for name in e.name.split(", ")}
    reported = {name for record in records for e in record.experiences for name in e.name.split(", ")}
    assert shown == set("01234")
    assert reported == set("56789")


def test_the_plan_counts_what_is_carried_out(tmp_path: Path) -> None:
    for protocol, name in ((small(), "naive"), (small(swap=True, split_seed=3), "ewc")):
        recorder, asked = Recorder(), study(tmp_path, name)
        planned = protocol.plan(asked)
        protocol.carry_out(asked, recorder.submit)
        assert [stage.runs for stage in planned] == [6, 2]
        assert len(recorder.runs) == 8


def test_the_winner_is_the_trial_with_the_best_mean_over_the_tuning_seeds(tmp_path: Path) -> None:
    recorder = Recorder()
    records = small().carry_out(study(tmp_path), recorder.submit)
    scores: dict[float, list[float]] = {}
    for run in recorder.runs:
        if run.phase is Phase.TUNING:
            scores.setdefault(run.strategy.lr, []).append(average_incremental_accuracy(engine.execute(run)))
    best = max(scores, key=lambda lr: sum(scores[lr]) / 2)
    assert {record.strategy_config["lr"] for record in records} == {best}
    selection = records[0].selection
    assert selection.tuning_score == pytest.approx(sum(scores[best]) / 2)
    assert (selection.trials, selection.tuning_seeds, len(selection.tuning_runs)) == (3, (100, 101), 6)
    assert next(iter(scores)) == 0.05  # the defaults are tried first


def test_a_search_is_repeatable_and_draws_are_shared_between_strategies(tmp_path: Path) -> None:
    drawn = {}
    for name in ("naive", "lwf"):
        for again in range(2):
            recorder = Recorder()
            small().tune(study(tmp_path, name), recorder.submit)
            drawn[name, again] = [run.strategy.lr for run in recorder.runs]
    assert drawn["naive", 0] == drawn["naive", 1] == drawn["lwf", 0]
    assert len(set(drawn["naive", 0])) == 3


def test_tpe_does_not_depend_on_how_many_runs_go_side_by_side(tmp_path: Path) -> None:
    def proposals(batch: int) -> list[float]:
        recorder = Recorder()
        small(sampler=Sampler.TPE, trials=4, batch=batch, tuning_seeds=[100]).tune(study(tmp_path), recorder.submit)
        return [run.strategy.lr for run in recorder.runs]

    assert proposals(2) == proposals(2)


def test_what_the_user_set_is_not_searched(tmp_path: Path) -> None:
    recorder = Recorder()
    asked = study(tmp_path, asked={"strategy.lr": "0.02", "strategy.weight_decay": "0"}, lr=0.02, weight_decay=0.0)
    small().carry_out(asked, recorder.submit)
    assert {run.strategy.lr for run in recorder.runs} == {0.02}
    assert len(recorder.runs) == 2 + 2  # with nothing to search, the tuning half is run once, for the record


def test_the_scenario_s_range_is_searched_and_its_plain_values_are_not(tmp_path: Path) -> None:
    source, scenario = scenarios.load("instructions")
    _, config = strategies.load("lwf")
    begun = config(**starts(config, source.training))
    texts = Study(scenario(), begun, ModelConfig("pretrained_llama"), "cpu", tmp_path)
    space = small()._searched(texts)
    own = {"strength": LogUniform(0.1, 10.0), "temperature": Choice((1.0, 2.0, 4.0))}
    assert space == {"lr": LogUniform(1e-4, 1e-2), **own}
    assert "draws of lr, strength, temperature" in small().plan(texts)[0].text

    def score(draws: Sequence[dict[str, Any]]) -> list[float]:
        tried.extend(draws)
        return [0.0] * len(draws)

    for sampler in Sampler:
        tried: list[dict[str, Any]] = []
        search(space, {name: getattr(begun, name) for name in space}, 6, sampler, 0, 3, score)
        assert tried[0] == {"lr": 1.5e-3, "strength": 1.0, "temperature": 2.0}
        assert all(1e-4 <= draw["lr"] <= 1e-2 for draw in tried)
    fixed = replace(texts, asked={"strategy.lr": "0.001"})
    assert "lr" not in small()._searched(fixed)


@pytest.mark.parametrize("name", scenarios.names())
def test_what_learners_begin_with_lies_within_what_is_searched(name: str) -> None:
    skip_without_package(name)
    training = scenarios.load(name)[0].training
    _, config = strategies.load("naive")
    begun = config(**starts(config, training))
    for field, range_ in ranges(begun, training).items():
        assert isinstance(range_, LogUniform)
        assert range_.low <= getattr(begun, field) <= range_.high, field


def test_a_diverged_trial_scores_chance_is_kept_and_loses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()
    asked = study(tmp_path, lr=0.1)
    protocol = small()
    monkeypatch.setattr(two_phase, "ranges", lambda *_: {"lr": Choice((0.1, 1e7, 1e8))})
    records = protocol.carry_out(asked, recorder.submit)
    tuned = [engine.execute(run) for run in recorder.runs if run.phase is Phase.TUNING]
    diverged = [record for record in tuned if record.status is Status.DIVERGED]
    assert diverged
    chance = (100 / 2 + 100 / 4 + 100 / 5) / 3
    assert average_incremental_accuracy(diverged[0]) == pytest.approx(chance)
    assert diverged[0].run in records[0].selection.tuning_runs
    assert {record.status for record in records} == {Status.FINISHED}


def test_a_study_that_was_stopped_repeats_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = small().carry_out(study(tmp_path), Recorder().submit)
    monkeypatch.setattr(engine, "_Session", None)  # nothing may be computed any more
    assert small().carry_out(study(tmp_path), Recorder().submit) == first


def test_a_run_cannot_tune_on_what_is_reported(tmp_path: Path) -> None:
    recorder, asked = Recorder(), study(tmp_path)
    run = small()._tuning_run(asked, asked.strategy, 100)
    for part in (Part.EVALUATION_HALF, Part.WHOLE):
        with pytest.raises(LeakError, match="a tuning run may open the tuning half only"):
            replace(run, part=part)
    with pytest.raises(LeakError, match="never reported"):
        replace(run, phase=Phase.EVALUATION)
    evaluation = small()._evaluation_runs(asked, Selection(by="given"))[0]
    with pytest.raises(LeakError, match="only the tuning half may be opened"):
        two_phase.tuning_only(recorder.submit)(evaluation)
    assert not recorder.runs
    with pytest.raises(LeakError, match="seed 0 was tuned on"):
        replace(evaluation, selection=Selection(by="somebody", tuning_seeds=(0,)))
    with pytest.raises(LeakError, match="this run may open the tuning half only"):
        run.handle().open(100, Part.EVALUATION_HALF)


@pytest.mark.parametrize(
    ("values", "error", "text"),
    [
        ({"seeds": [1, 2], "tuning_seeds": [2, 3]}, ConfigError, r"no seed in common, got \[2\]"),
        ({"seeds": []}, ConfigError, "at least one seed"),
        ({"seeds": [1, 1]}, ConfigError, "different seeds"),
        ({"seeds": [-1]}, ConfigError, "in 0 .. "),
        ({"trials": 0}, ConfigError, "protocol.trials must be >= 1"),
        ({"criterion": "acuracy"}, UnknownNameError, "There are: .*average_incremental_accuracy"),
    ],
)
def test_bad_configs_are_one_sentence(values: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        TwoPhaseConfig(**values)


@pytest.mark.parametrize(
    ("name", "values", "wanted"),
    [
        ("digits", {}, "average_incremental_accuracy"),
        ("instructions", {}, "last_accuracy_macro"),
        ("trace", {}, "last_accuracy_macro"),
        ("edits", {}, "editing_score"),
        ("edits", {"criterion": "reliability"}, "reliability"),
    ],
)
def test_the_scenario_names_the_criterion_where_the_user_does_not(
    tmp_path: Path, name: str, values: dict[str, Any], wanted: str
) -> None:
    asked = replace(study(tmp_path), scenario=scenarios.load(name)[1]())
    assert small(**values).criterion(asked) == wanted
    assert wanted in METRICS


def test_the_criterion_that_decided_is_recorded(tmp_path: Path) -> None:
    for values, wanted in (({}, "average_incremental_accuracy"), ({"criterion": "last_accuracy"}, "last_accuracy")):
        _, selection = small(trials=1, tuning_seeds=[100], **values).tune(study(tmp_path), Recorder().submit)
        assert selection.criterion == wanted


def test_a_criterion_without_a_value_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IncompatibleError, match=r"protocol\.criterion=fwt_gem has no value on this scenario"):
        small(criterion="fwt_gem", tuning_seeds=[100], trials=1).carry_out(study(tmp_path), Recorder().submit)


def test_one_failing_run_does_not_stop_the_others(tmp_path: Path) -> None:
    good, bad = (Future[Record](), Future[Record]())
    good.set_result(engine.execute(small()._tuning_run(study(tmp_path), study(tmp_path).strategy, 100)))
    bad.set_exception(ZeroDivisionError("no"))
    with pytest.raises(RunError, match="1 of 2 runs failed, the first with ZeroDivisionError"):
        gather([good, bad])
