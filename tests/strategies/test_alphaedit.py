from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from clbench.digest import state_digest
from clbench.edits.sites import keys_and_state
from clbench.engine import learn
from clbench.errors import ConfigError, IncompatibleError
from clbench.examination import measure
from clbench.strategies.alphaedit import AlphaEditConfig, confined_update, free_directions
from tests.learning import edits, strategy


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def case() -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Residuals, keys, keys to stay (5 directions of 12), those of the past, and the free directions."""
    stay = drawn(12, 5) @ drawn(5, 40, seed=1)
    free = free_directions(stay @ stay.T / 40, 1e-6, "here")
    return drawn(3, 4, seed=2), drawn(12, 4, seed=3), stay, drawn(12, 6, seed=4), free


@pytest.mark.parametrize("ridge", [0.01, 1.0, 10.0])
def test_the_update_is_the_papers_closed_form(ridge: float) -> None:
    residuals, keys, _, past, free = case()
    onto = free @ free.T
    inner = past @ past.T @ onto + keys @ keys.T @ onto + ridge * torch.eye(12, dtype=torch.float64)
    expected = residuals @ keys.T @ onto @ torch.linalg.inv(inner)
    found = confined_update(residuals, keys, free, past @ past.T, ridge)
    torch.testing.assert_close(found, expected)


def test_the_update_is_the_stacked_least_squares_solution() -> None:
    """Over X with dW = X P: |X P K - R|^2 + |X P K_p|^2 + ridge |X P|^2, least norm, as one system for lstsq."""
    residuals, keys, _, past, free = case()
    onto = free @ free.T
    left = torch.cat([(onto @ keys).T, (onto @ past).T, 0.3**0.5 * onto])
    right = torch.cat([residuals.T, torch.zeros(6 + 12, 3, dtype=torch.float64)])
    expected = torch.linalg.lstsq(left, right, driver="gelsd").solution.T
    found = confined_update(residuals, keys, free, past @ past.T, 0.3)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)


def test_keys_that_are_to_stay_are_mapped_as_before() -> None:
    residuals, keys, stay, past, free = case()
    assert free.shape == (12, 7)
    change = confined_update(residuals, keys, free, past @ past.T, 0.1)
    assert (change @ stay).abs().max() < 1e-12 * change.abs().max() * stay.abs().max() * 1e3
    assert (change @ keys).abs().max() > 0.1


def test_past_edits_are_protected() -> None:
    residuals, keys, _, past, free = case()
    nothing = torch.zeros(12, 12, dtype=torch.float64)
    alone, with_past = (confined_update(residuals, keys, free, p, 0.1) for p in (nothing, 1e6 * past @ past.T))
    assert (with_past @ past).norm() < 1e-3 * (alone @ past).norm()


def test_no_free_direction_is_one_clear_line() -> None:
    with pytest.raises(IncompatibleError, match=r"=0.02 leaves no direction free at here, .* 1 to 1; raise it"):
        free_directions(torch.eye(4, dtype=torch.float64), 0.02, "here")


def test_most_of_a_handful_of_edits_hold() -> None:
    stream = edits(edits=8, per_experience=8).stream(2)  # eight people
    learner = strategy("alphaedit", stream)
    assert measure(learner, stream, 1)[0].correct == 0
    learn(learner, stream.experiences[0])
    assert measure(learner, stream, 1)[0].correct >= 6


def test_outputs_on_reference_keys_hardly_change_and_those_of_edits_do() -> None:
    stream = edits(edits=8, per_experience=8).stream(2)  # eight people
    learner = strategy("alphaedit", stream, layers=[0])
    (site,) = learner.sites
    before = site.weight.double().clone()
    batch = learner.problem.transform.evaluate(next(stream.experiences[0].train.batches(8)))
    ((keys,), _) = keys_and_state(learner.model, learner.sites, batch)
    learn(learner, stream.experiences[0])
    change = site.weight.double() - before
    common = torch.trace(change @ learner.moments[site.name] @ change.T)  # mean over tokens of |dW k|^2
    edited = (change @ keys).square().sum(0).mean()
    assert common < 0.05 * edited


def test_keys_of_past_edits_are_kept_and_carried_over() -> None:
    stream = edits(per_experience=2).stream(0)
    whole, other = (strategy("alphaedit", stream, layers=[0, 1]) for _ in range(2))
    learn(whole, stream.experiences[0])
    batch = whole.problem.transform.evaluate(next(stream.experiences[0].train.batches(8)))
    keys, _ = keys_and_state(whole.model, whole.sites, batch)
    for site, key in zip(whole.sites, keys, strict=True):
        torch.testing.assert_close(whole.auxiliary[site.name], key @ key.T, rtol=1e-3, atol=1e-2)
    other.restore(copy.deepcopy(whole.state()))
    for learner in (whole, other):
        learn(learner, stream.experiences[1])
    assert state_digest(whole.state()) == state_digest(other.state())


@pytest.mark.parametrize("values", [{"nullspace_threshold": 0.0}, {"ridge": 0.0}])
def test_values_out_of_range_are_named(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"strategy.{next(iter(values))} must be > 0"):
        AlphaEditConfig(**values)
