from __future__ import annotations

from typing import Any

import pytest
import torch

from clbench.engine import learn
from clbench.errors import ConfigError
from clbench.record import Setting
from clbench.strategies.fixed_ema import FixedEMA, FixedEMAConfig
from tests.learning import OF_CLASSES, digits, shortened, strategy


def numbers(learner: Any) -> dict[str, torch.Tensor]:
    state = learner.model.state_dict()
    return {name: t.clone() for name, t in state.items() if t.is_floating_point()}


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, torch.Tensor]]:
    """The numbers of the trained model after each step, for whoever learns while it is in use."""
    recorded: list[dict[str, torch.Tensor]] = []
    follow = FixedEMA.after_step

    def watched(self: FixedEMA) -> None:
        recorded.append(numbers(self))
        follow(self)

    monkeypatch.setattr(FixedEMA, "after_step", watched)
    return recorded


@pytest.mark.parametrize("setting", OF_CLASSES)
def test_it_ends_with_the_closed_form_over_its_steps(steps: list[dict[str, torch.Tensor]], setting: Setting) -> None:
    stream = digits(setting)
    learner = strategy("fixed_ema", stream, decay=0.9, epochs=2)
    learn(learner, shortened(stream.experiences[0], 64))
    before = numbers(learner)
    steps.clear()
    learn(learner, shortened(stream.experiences[1], 128))
    assert len(steps) == 8
    for name, got in numbers(learner).items():
        rows = len(before[name]) if got.dim() else None
        path = [values[name][:rows].double() for values in steps]
        wanted = 0.9**8 * before[name].double()
        for index, values in enumerate(path):
            wanted += 0.1 * 0.9 ** (7 - index) * values
        assert torch.allclose(got[:rows].double(), wanted, atol=1e-6), name
        assert torch.equal(got[rows:], steps[-1][name][rows:])  # rows that are new end as they were trained


def test_its_ends_are_naive_and_standing_still() -> None:
    stream = digits()
    last = {}
    for decay in (None, 0.0, 1.0):
        learner = strategy("naive", stream) if decay is None else strategy("fixed_ema", stream, decay=decay)
        learn(learner, shortened(stream.experiences[0], 64))
        before = numbers(learner)
        learn(learner, shortened(stream.experiences[1], 64))
        last[decay] = numbers(learner)
    assert all(torch.equal(last[None][name], got) for name, got in last[0.0].items())
    assert all(torch.equal(got[: len(before[name])], before[name]) for name, got in last[1.0].items())


def test_the_first_experience_of_a_model_that_begins_at_random_is_not_averaged() -> None:
    stream = digits()
    first = {}
    for held in (0, 1):
        learner = strategy("fixed_ema", stream, first_held=held)
        learn(learner, shortened(stream.experiences[0], 64))
        first[held] = numbers(learner)
    naive = strategy("naive", stream)
    learn(naive, shortened(stream.experiences[0], 64))
    wanted = numbers(naive)
    assert all(torch.equal(first[1][name], wanted[name]) for name in wanted)
    assert not torch.equal(first[0]["backbone.stages.0.conv.weight"], wanted["backbone.stages.0.conv.weight"])


def test_half_precision_weights_still_move_by_small_shares() -> None:
    """In bfloat16 itself 1 + 0.001 * 0.5 is 1, so an average kept there would stand still."""
    stream = digits()
    learner = strategy("fixed_ema", stream, decay=0.999)
    live = torch.full((3,), 1.5, dtype=torch.bfloat16)
    learner.past, learner.live = {"w": torch.ones(3)}, {"w": live}
    for _ in range(1000):
        learner.after_step()
    learner.end(stream.experiences[0])
    assert live.dtype is torch.bfloat16
    assert torch.allclose(live.float(), torch.tensor(1.5 - 0.5 * 0.999**1000), atol=0.005)


@pytest.mark.parametrize("decay", [-0.1, 1.1])
def test_a_decay_out_of_range_is_one_sentence(decay: float) -> None:
    with pytest.raises(ConfigError, match=r"strategy\.decay must be in \[0, 1\]"):
        FixedEMAConfig(decay=decay)
