from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from clbench.engine import learn
from clbench.errors import ConfigError
from clbench.examination import measure
from clbench.memory import MemoryConfig
from clbench.models.classifier import local_cross_entropy
from clbench.models.head import CosineHead
from clbench.record import Setting
from clbench.strategies.linear_probe import LinearProbeConfig
from tests.learning import OF_CLASSES, shortened, strategy, stream_for


def test_the_loss_is_a_softmax_among_the_new_classes_only_and_so_is_its_gradient() -> None:
    draws = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 6, generator=draws, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([2, 4, 3, 2])
    wanted = 0.0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        wanted -= math.log(math.exp(row[label]) / sum(math.exp(row[j]) for j in (2, 3, 4))) / 4
    loss = local_cross_entropy(logits, labels, slice(2, 5))
    assert abs(float(loss.detach()) - wanted) < 1e-12
    slope = torch.autograd.grad(loss, logits)[0]
    assert slope[:, [0, 1, 5]].abs().sum() == 0
    assert torch.allclose(slope.sum(1), torch.zeros(4, dtype=torch.float64))


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("setting", OF_CLASSES)
def test_rows_of_other_classes_keep_their_bits_under_weight_decay(setting: Setting, cosine: bool) -> None:
    stream = stream_for("linear_probe", setting)
    learner: Any = strategy("linear_probe", stream, weight_decay=0.1, lr=0.1, epochs=3)
    if cosine:
        learner.model.head = CosineHead(learner.model.head.weight.shape[1], learner.model.outputs)
    learn(learner, stream.experiences[0])
    before = {name: p.detach().clone() for name, p in learner.model.head.named_parameters() if p.ndim}
    learn(learner, stream.experiences[1])
    for name, rows in before.items():
        now: Tensor = learner.model.head.get_parameter(name)
        assert torch.equal(now[:2], rows[:2])
        assert torch.equal(now[4:], rows[4:])
        if len(rows) > 2:
            assert not torch.equal(now[2:4], rows[2:4])


def test_only_the_head_is_trained() -> None:
    stream = stream_for("linear_probe")
    learner: Any = strategy("linear_probe", stream)
    before = [p.detach().clone() for p in learner.model.backbone.parameters()]
    learn(learner, stream.experiences[0])
    assert learner.parameters()[1] == 2 * (learner.model.head.weight.shape[1] + 1)
    assert all(torch.equal(a, b) for a, b in zip(before, learner.model.backbone.parameters(), strict=True))


def test_an_increment_of_one_class_runs_and_learns_nothing() -> None:
    stream = stream_for("linear_probe", increment=1)
    learner: Any = strategy("linear_probe", stream)
    for experience in stream.experiences[:3]:
        learn(learner, shortened(experience, 1))
    assert len(learner.model.head.weight) == 3


def test_the_joint_probe_is_a_fresh_head_on_all_examples_whatever_came_before() -> None:
    stream = stream_for("linear_probe")
    learner: Any = strategy("linear_probe", stream, joint=True)
    labels: list[Tensor] = []
    loss = learner.loss

    def watched(batch: Any) -> Tensor:
        labels.append(batch["label"])
        return loss(batch)  # type: ignore[no-any-return]

    learner.loss = watched
    for experience in stream.experiences[:2]:
        labels.clear()
        learn(learner, shortened(experience, 100))
    assert len(torch.cat(labels)) == 200
    assert set(torch.cat(labels).tolist()) == {0, 1, 2, 3}
    assert learner.stored_bytes() == 200 * stream.experiences[0].train.source.row_bytes
    other: Any = strategy("linear_probe", stream, joint=True)
    other.seen.rows = learner.seen.rows[:100]  # the second experience on top of the same rows, but of an untrained head
    learn(other, shortened(stream.experiences[1], 100))
    assert torch.equal(other.model.head.weight, learner.model.head.weight)


def test_the_joint_probe_bounds_the_continual_one() -> None:
    stream = stream_for("linear_probe")
    right = {}
    for joint in (False, True):
        learner = strategy("linear_probe", stream, joint=joint, epochs=10, lr=0.1)
        for experience in stream.experiences:
            learn(learner, experience)
        right[joint] = sum(m.correct for m in measure(learner, stream, 5))
    assert right[True] > right[False] + 20


def test_a_memory_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"strategy\.memory\.capacity must be 0 for linear_probe, got 10"):
        LinearProbeConfig(memory=MemoryConfig(capacity=10))
