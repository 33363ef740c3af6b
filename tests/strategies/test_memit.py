from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from clbench.digest import state_digest
from clbench.edits.sites import keys_and_state
from clbench.engine import learn
from clbench.errors import ConfigError, IncompatibleError
from clbench.examination import measure
from clbench.record import Setting
from clbench.strategies.memit import MEMIT, MEMITConfig, factor_of, weighed_update
from clbench.strategy import Problem
from clbench.table import Source, Table
from tests.learning import edits, strategy

ROME: dict[str, Any] = {"mom2_update_weight": 0.0, "batch_size": 1, "layers": [0]}


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("weight", [0.5, 15000.0])
@pytest.mark.parametrize("edits", [1, 5, 20])
def test_the_update_is_the_stacked_least_squares_solution(weight: float, edits: int) -> None:
    """|dW K - R|^2 + weight mean_n |dW k_n|^2 over common keys k_n, as one system for lstsq."""
    common, keys, residuals = drawn(8, 30), drawn(8, edits, seed=1), drawn(3, edits, seed=2)
    left = torch.cat([keys.T, (weight / 30) ** 0.5 * common.T])
    right = torch.cat([residuals.T, torch.zeros(30, 3, dtype=torch.float64)])
    expected = torch.linalg.lstsq(left, right, driver="gelsd").solution.T
    found = weighed_update(residuals, keys, factor_of(common @ common.T / 30, "here"), weight)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-12)


def test_without_weight_a_key_is_mapped_exactly_with_the_least_harm() -> None:
    """ROME's equation 2, and against the constrained optimum found through the null space of the key."""
    common, key, residual = drawn(8, 30), drawn(8, 1, seed=1), drawn(3, 1, seed=2)
    moment = common @ common.T / 30
    found = weighed_update(residual, key, factor_of(moment, "here"), 0.0)
    torch.testing.assert_close(found @ key, residual)
    direction = torch.linalg.inv(moment) @ key
    torch.testing.assert_close(found, residual @ direction.T / (direction.T @ key))
    free = torch.linalg.svd(key.T)[2][1:].T  # any other exact change differs by Z free^T
    one = residual @ torch.linalg.pinv(key)
    best = torch.linalg.lstsq((free.T @ common).T, -(one @ common).T).solution.T
    torch.testing.assert_close(found, one + best @ free.T)


def test_a_second_moment_that_leaves_directions_out_is_one_clear_line() -> None:
    few = drawn(8, 1)
    with pytest.raises(IncompatibleError, match=r"at here do not span its 8 dimensions; give more texts"):
        factor_of(few @ few.T - 1e-9 * torch.eye(8, dtype=torch.float64), "here")


def test_rome_gives_the_subject_the_state_that_was_searched_for(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = edits().stream(0)
    learner = strategy("memit", stream, **ROME)
    (site,) = learner.sites
    asked: list[tuple[Tensor, Tensor]] = []
    change = MEMIT.change

    def watched(self: Any, site: Any, residuals: Tensor, keys: Tensor) -> Tensor:
        asked.append((residuals, keys))
        return change(self, site, residuals, keys)

    monkeypatch.setattr(MEMIT, "change", watched)
    rows = stream.experiences[0].train.rows[:1]
    batch = learner.problem.transform.evaluate(stream.experiences[0].train.source.take(rows))
    before, state = site.weight.double(), keys_and_state(learner.model, learner.sites, batch)[1]
    learner.edit(stream.experiences[0].train.source.take(rows))
    ((residual, key),) = asked
    torch.testing.assert_close((site.weight.double() - before) @ key, residual, rtol=1e-3, atol=1e-4)
    after = keys_and_state(learner.model, learner.sites, batch)[1]
    torch.testing.assert_close(after - state, residual, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("values", [{"batch_size": 8, "mom2_update_weight": 1.0}, {"batch_size": 1}, ROME])
def test_most_of_a_handful_of_edits_hold(values: dict[str, Any]) -> None:
    stream = edits(edits=8, per_experience=8).stream(2)  # eight people
    learner = strategy("memit", stream, **values)
    assert measure(learner, stream, 1)[0].correct == 0
    learn(learner, stream.experiences[0])
    assert measure(learner, stream, 1)[0].correct >= 6


def test_only_the_named_matrices_change_by_low_rank() -> None:
    stream = edits(per_experience=2).stream(0)
    learner = strategy("memit", stream, layers=[0, 2], batch_size=2)
    before = copy.deepcopy(dict(learner.model.network.named_parameters()))
    learn(learner, stream.experiences[0])
    moved = {n: p - before[n] for n, p in learner.model.network.named_parameters() if not torch.equal(p, before[n])}
    assert set(moved) == {f"model.layers.{i}.mlp.down_proj.weight" for i in (0, 2)} == set(learner.changed())
    for change in moved.values():
        sizes = torch.linalg.svdvals(change)
        assert sizes[2] < 1e-4 * sizes[0]


def test_statistics_are_those_of_the_unedited_model_however_often_it_is_taken_up_again() -> None:
    stream = edits().stream(0)
    whole, other = strategy("memit", stream), strategy("memit", stream)
    learn(whole, stream.experiences[0])
    other.restore(copy.deepcopy(whole.state()))
    assert all(torch.equal(whole.moments[name], other.moments[name]) for name in whole.moments)
    for learner in (whole, other):
        learn(learner, stream.experiences[1])
    assert state_digest(whole.state()) == state_digest(other.state())


def test_statistics_weigh_as_stored_state() -> None:
    learner = strategy("memit", edits().stream(0), layers=[0, 1])
    assert learner.stored_bytes() == 2 * 256 * 256 * 8


def test_edits_without_a_subject_are_refused_before_anything_is_edited() -> None:
    stream = edits().stream(0)
    learner = strategy("memit", stream)
    source = stream.experiences[0].train.source
    nowhere = source.columns["subject"].clone()
    nowhere[1] = -1
    table = Table(Source({**source.columns, "subject": nowhere}), stream.experiences[0].train.rows)
    before = state_digest(copy.deepcopy(learner.state()))
    with pytest.raises(IncompatibleError, match=r"^1 of \d+ edits .* have no subject .*strategy=locft_bf$"):
        learn(learner, replace(stream.experiences[0], train=table))
    assert state_digest(learner.state()) == before


def test_layers_that_the_model_does_not_have_are_one_clear_line() -> None:
    with pytest.raises(IncompatibleError, match="names block 7: the model has blocks 0 to 3"):
        strategy("memit", edits().stream(0), layers=[7])


def told(stream: Any, **values: Any) -> Problem:
    problem: Problem = strategy("memit", stream).problem
    return replace(problem, **values)


def test_what_it_cannot_take_is_one_clear_line() -> None:
    stream, config = edits().stream(0), MEMITConfig()
    assert MEMIT.skip(config, told(stream)) is None
    assert "scenario.reference=FILE" in str(MEMIT.skip(config, told(stream, reference=None)))
    assert "scenario=edits" in str(MEMIT.skip(config, told(stream, setting=Setting.INSTRUCTION)))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mom2_update_weight": -1.0}, "strategy.mom2_update_weight must be >= 0"),
        ({"mom2_update_weight": 0.0, "batch_size": 2, "layers": [0]}, "is ROME"),
        ({"mom2_update_weight": 0.0, "layers": [0, 1]}, "is ROME"),
        ({"layers": []}, "strategy.layers must be some blocks or null"),
        ({"mom2_n_samples": 0}, "strategy.mom2_n_samples must be >= 1 or null"),
    ],
)
def test_values_out_of_range_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MEMITConfig(**values)
