from __future__ import annotations

from typing import Any

import pytest
import torch

from clbench.engine import learn
from clbench.strategies.l2sp import Anchor, squares
from tests.learning import digits, shortened, strategy


def pulls(learner: Any, stream: Any) -> dict[str, torch.Tensor]:
    """What the penalty adds to each parameter's gradient."""
    batch = stream.transform.evaluate(next(stream.experiences[0].test.batches(16)))
    learner.model.eval()
    parameters = dict(learner.model.named_parameters())
    with_penalty, without = (
        torch.autograd.grad(loss(batch), list(parameters.values())) for loss in (learner.loss, learner.model.loss)
    )
    return {name: a - b for name, a, b in zip(parameters, with_penalty, without, strict=True)}


def test_squares_against_finite_differences_with_rows_and_tensors_that_are_new() -> None:
    draws = torch.Generator().manual_seed(0)
    shapes = [(4, 3), (2, 2, 3, 3), (), (5,)]
    weights = [torch.randn(shape, generator=draws, dtype=torch.float64).requires_grad_() for shape in shapes]
    starts = [torch.randn(s, generator=draws, dtype=torch.float64) for s in [(2, 3), (2, 2, 3, 3), (), (0,)]]
    weights[1] = weights[1].detach().to(memory_format=torch.channels_last).requires_grad_()
    moved, new = squares(weights, starts)
    wanted = sum((w[: len(s)] if w.dim() else w).sub(s).square().sum() for w, s in zip(weights, starts, strict=True))
    assert torch.allclose(moved, torch.as_tensor(wanted))
    assert torch.allclose(new, weights[0][2:].square().sum() + weights[3].square().sum())
    assert torch.autograd.gradcheck(lambda *w: squares(w, starts), weights)


@pytest.mark.parametrize("anchor", Anchor)
def test_the_pull_is_linear_in_the_way_from_the_start_and_towards_zero_where_there_is_none(anchor: Anchor) -> None:
    stream = digits()
    learner = strategy("l2sp", stream, strength=7.0, new_strength=3.0, anchor=anchor)
    learn(learner, shortened(stream.experiences[0], 64))
    ends = []
    for experience in stream.experiences[1:3]:
        ends.append({name: p.detach().clone() for name, p in learner.model.named_parameters()})
        end = learner.end

        def checked(current: Any, end: Any = end, start: Any = ends[0 if anchor is Anchor.FIRST else -1]) -> None:
            for name, pull in pulls(learner, stream).items():
                weight, rows = learner.model.get_parameter(name), len(start[name])
                assert torch.allclose(pull[:rows], 7.0 * (weight[:rows] - start[name]), atol=1e-5), name
                assert torch.allclose(pull[rows:], 3.0 * weight[rows:], atol=1e-5), name
            end(current)

        learner.end = checked
        learn(learner, shortened(experience, 64))
        learner.end = end
    assert any(not torch.equal(ends[0][name], ends[1][name][: len(ends[0][name])]) for name in ends[0])


def test_in_a_first_experience_that_begins_at_random_everything_is_new() -> None:
    stream = digits()
    learner = strategy("l2sp", stream, strength=7.0, new_strength=3.0)
    learner.model.grow(2)
    learner.begin(stream.experiences[0])
    for name, pull in pulls(learner, stream).items():
        assert torch.allclose(pull, 3.0 * learner.model.get_parameter(name), atol=1e-5)


def test_without_strengths_it_is_naive_and_with_more_it_moves_less() -> None:
    stream = digits()

    def after(name: str, **values: Any) -> tuple[float, torch.Tensor]:
        learner = strategy(name, stream, lr=0.01, epochs=3, weight_decay=0.0, **values)
        learn(learner, stream.experiences[0])
        before = torch.cat([p.detach().flatten() for p in learner.model.backbone.parameters()])
        learn(learner, stream.experiences[1])
        end = torch.cat([p.detach().flatten() for p in learner.model.backbone.parameters()])
        return float((end - before).norm()), end

    naive, free = after("naive"), after("l2sp", strength=0.0, new_strength=0.0)
    assert torch.allclose(naive[1], free[1], atol=1e-5)
    distances = [free[0], *(after("l2sp", strength=s, new_strength=0.0)[0] for s in (1.0, 10.0))]
    assert distances == sorted(distances, reverse=True)
    assert distances[2] < 0.5 * distances[0]


def test_only_the_first_start_is_stored_for_good_and_it_survives_a_restart() -> None:
    stream = digits()
    stored = {}
    for anchor in Anchor:
        learner, other = (strategy("l2sp", stream, anchor=anchor) for _ in range(2))
        for experience in stream.experiences[:2]:
            learn(learner, shortened(experience, 32))
        first = sum(p.numel() for p in learner.model.parameters()) - 2 * (learner.model.head.weight.shape[1] + 1)
        stored[anchor] = learner.stored_bytes() / first
        other.restore(learner.state())
        for each in (learner, other):
            learn(each, shortened(stream.experiences[2], 32))
        assert all(torch.equal(p, q) for p, q in zip(learner.model.parameters(), other.model.parameters(), strict=True))
    assert stored == {Anchor.PREVIOUS: 0, Anchor.FIRST: 4}
