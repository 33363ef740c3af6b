from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from clbench.engine import learn
from clbench.errors import ConfigError
from clbench.gradients import Projecting, ProjectingConfig, assign, flat
from clbench.half import Half, HalfConfig
from clbench.memory import MemoryConfig
from clbench.table import Batch, Table
from tests.learning import digits, problem, shortened


class Watched(Projecting):
    """Leaves every gradient as it is and remembers what it has seen."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.sizes: list[int] = []
        self.asked: list[int] = []

    def loss(self, batch: Batch) -> Tensor:
        self.sizes.append(len(batch["label"]))
        return super().loss(batch)

    def projected(self, gradient: Tensor) -> Tensor:
        self.asked.append(len(gradient))
        return gradient


def watched(ratio: float = 1.0, **memory: Any) -> Watched:
    config = ProjectingConfig(epochs=1, ratio=ratio, memory=MemoryConfig(**{"capacity": 60} | memory))
    return Watched(config, problem(digits(), model="small_vit"))


def test_a_vector_goes_back_to_where_it_was_flattened_from() -> None:
    draws = torch.Generator().manual_seed(0)
    parameters = [nn.Parameter(torch.randn(s, generator=draws)) for s in ((2, 3), (), (4, 2, 3, 3), (5,))]
    parameters[1] = nn.Parameter(parameters[1].detach().double())
    parameters[3] = nn.Parameter(parameters[3].detach().bfloat16())
    for p in parameters:
        p.grad = p.detach().clone()
    parameters[2].grad = parameters[2].detach().contiguous(memory_format=torch.channels_last)
    vector = flat(p.grad for p in parameters if p.grad is not None)
    assert vector.shape == (6 + 1 + 72 + 5,)
    assert vector.dtype is torch.float64  # nothing is rounded
    assign(parameters, 3 * vector)
    assert all(torch.allclose(p.grad, 3 * p.detach()) for p in parameters if p.grad is not None)


def test_exemplars_join_no_batch_and_are_asked_about_from_the_second_experience_on() -> None:
    stream, learner = digits(), watched()
    plain = Half(HalfConfig(epochs=1), problem(stream, model="small_vit"))
    for experience, steps in zip(stream.experiences[:3], (0, 2, 2), strict=True):
        learner.asked.clear()
        for each in (learner, plain):
            learn(each, shortened(experience, 64))
        assert len(learner.asked) == steps
    assert set(learner.sizes) == {32}
    assert len(learner.memory) == 60
    ours, others = learner.model.state_dict(), plain.model.state_dict()
    assert all(torch.equal(ours[name], others[name]) for name in others)  # a gradient put back is the same gradient


@pytest.mark.parametrize("ratio", [1.0, 0.5])
@pytest.mark.parametrize("passes", [16, 64])
def test_the_gradient_of_exemplars_is_that_of_their_mean_loss_by_what_trains(ratio: float, passes: int) -> None:
    stream, learner = digits(), watched(ratio, batch_size=passes)
    learn(learner, shortened(stream.experiences[0], 64))
    learner.model.grow(4)
    learner.begin(stream.experiences[1])
    kept = learner.kept
    batch = stream.transform.evaluate(kept.source.take(kept.rows))
    learner.model.zero_grad()
    learner.loss(batch).backward()
    wanted = {name: p.grad.clone() for name, p in learner.model.named_parameters() if p.grad is not None}
    trained = {name for name, p in learner.model.named_parameters() if p.requires_grad}
    assert wanted.keys() == trained
    assert (len(trained) < len(list(learner.model.parameters()))) == (ratio < 1)
    learner.moved = [p for p in learner.model.parameters() if p.grad is not None]
    found = learner.gradient_of(kept)
    assert torch.allclose(found, flat(wanted.values()), atol=1e-5)
    after = {name: p.grad for name, p in learner.model.named_parameters() if p.grad is not None}
    assert all(torch.equal(after[name], gradient) for name, gradient in wanted.items())  # untouched


def test_a_parameter_that_the_exemplars_do_not_reach_has_a_gradient_of_zero() -> None:
    stream, learner = digits(), watched()
    learn(learner, shortened(stream.experiences[0], 64))
    unused = nn.Parameter(torch.ones(3))
    learner.moved = [unused, learner.model.get_parameter("head.bias")]
    found = learner.gradient_of(Table(stream.experiences[0].train.source, learner.memory.rows))
    assert not found[:3].any()
    assert found[3:].any()


def test_without_a_memory_there_is_no_constraint() -> None:
    with pytest.raises(ConfigError, match=r"strategy\.memory\.capacity must be >= 1 where exemplars are the constr"):
        ProjectingConfig(memory=MemoryConfig(capacity=0))
