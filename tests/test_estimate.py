from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from clbench import estimate
from clbench.models.config import ModelConfig
from clbench.opening import open_stream
from clbench.record import Part, Phase, Selection
from clbench.run import Run
from clbench.scenario import Experience, scenarios
from clbench.strategy import strategies


def run_of(strategy: str, output: Path, increment: int = 2, **values: Any) -> Run:
    return Run(
        scenario=scenarios.load("digits")[1](increment=increment),
        strategy=strategies.load(strategy)[1](**values),
        model=ModelConfig("small_cnn", width=4),
        seed=0,
        phase=Phase.EVALUATION,
        part=Part.WHOLE,
        selection=Selection(by="given"),
        protocol="single",
        device="cpu",
        output=output,
    )


class Clock:
    """Time goes on only when a strategy learns: so much per example and epoch, so much per example once."""

    def __init__(self, per_epoch: float, once: float, first_only: bool = False) -> None:
        self.now, self.per_epoch, self.once, self.first_only = 0.0, per_epoch, once, first_only
        self.seen = 0

    def perf_counter(self) -> float:
        return self.now

    def learn(self, strategy: Any, experience: Experience) -> None:
        self.seen = len(experience.train) + (self.seen if experience.index else 0)
        joint = type(strategy).__name__ == "Joint"
        visited = self.seen if joint else len(experience.train)
        epochs = getattr(strategy.config, "epochs", 1)
        if not (self.first_only and experience.index):
            self.now += self.per_epoch * visited * epochs
        self.now += self.once * len(experience.train)


@pytest.mark.parametrize("increment", [1, 2, 5])
@pytest.mark.parametrize("name", ["naive", "joint", "ewc"])
def test_what_an_epoch_costs_and_what_is_paid_once_are_told_apart(
    name: str, increment: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(per_epoch=0.01, once=0.05)
    monkeypatch.setattr(estimate, "time", clock)
    monkeypatch.setattr(estimate, "learn", clock.learn)
    run = run_of(name, tmp_path, increment, epochs=20)
    stream = open_stream(run)
    sizes = [len(e.train) for e in stream.experiences]
    visits = sum(sum(sizes[: i + 1]) for i in range(len(sizes))) if name == "joint" else sum(sizes)
    assert estimate.estimate_seconds(run, stream) == pytest.approx(0.01 * 20 * visits + 0.05 * sum(sizes))


def test_a_method_that_trains_in_the_first_experience_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(per_epoch=0.01, once=0.05, first_only=True)
    monkeypatch.setattr(estimate, "time", clock)
    monkeypatch.setattr(estimate, "learn", clock.learn)
    run = run_of("naive", tmp_path, epochs=20)
    stream = open_stream(run)
    sizes = [len(e.train) for e in stream.experiences]
    assert estimate.estimate_seconds(run, stream) == pytest.approx(0.01 * 20 * sizes[0] + 0.05 * sum(sizes))
