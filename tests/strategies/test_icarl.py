from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from clbench.augment import ImageTransform
from clbench.engine import learn
from clbench.errors import ConfigError, IncompatibleError
from clbench.examination import measure
from clbench.memory import MemoryConfig, Policy
from clbench.record import Setting
from clbench.strategies import icarl
from clbench.strategies.icarl import ICaRLConfig, Loss
from clbench.strategy import strategies
from clbench.table import Batch, Table
from tests.learning import OF_CLASSES, digits, problem, shortened, strategy


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def drawn(*shapes: tuple[int, ...], seed: int = 0) -> list[Tensor]:
    draws = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=draws, dtype=torch.float64) for shape in shapes]


def herded(capacity: int) -> MemoryConfig:
    return MemoryConfig(capacity=capacity, policy=Policy.HERDING)


def test_the_binary_loss_is_the_papers_sum_written_out_and_so_is_its_gradient() -> None:
    logits, teacher = drawn((4, 5), (4, 3))
    logits.requires_grad_()
    labels, strength = torch.tensor([3, 0, 4, 3]), 1.7
    wanted, slopes = 0.0, torch.zeros(4, 5, dtype=torch.float64)
    for i in range(4):
        for j in range(5):
            weight = strength if j < 3 else 1.0
            target = sigmoid(float(teacher[i, j])) if j < 3 else float(labels[i] == j)
            g = sigmoid(float(logits[i, j].detach()))
            wanted -= weight * (target * math.log(g) + (1 - target) * math.log(1 - g)) / 4
            slopes[i, j] = weight * (g - target) / 4
    got = icarl.binary_loss(logits, labels, teacher, strength)
    assert abs(float(got.detach()) - wanted) < 1e-12
    assert torch.allclose(torch.autograd.grad(got, logits)[0], slopes, atol=1e-12)


def test_distillation_against_float64_sums_without_a_squared_temperature() -> None:
    logits, teacher = drawn((5, 4), (5, 4))
    p, q = torch.softmax(teacher / 2, 1), torch.softmax(logits / 2, 1)
    wanted = sum(float(p[i, j] * (p[i, j] / q[i, j]).log()) for i in range(5) for j in range(4)) / 5
    assert abs(float(icarl.distillation(logits, teacher, 2.0)) - wanted) < 1e-12


def test_the_answer_is_the_nearest_mean_of_normalised_exemplars() -> None:
    exemplars, asked = drawn((12, 3), (40, 3), seed=1)
    labels = torch.tensor([0, 1, 3] * 4)
    got = icarl.nearness(asked, icarl.class_means(exemplars, labels, 5)).argmax(1)
    for example, answer in zip(asked, got.tolist(), strict=True):
        distances = {}
        for label in (0, 1, 3):
            mean = sum(x / x.norm() for x, y in zip(exemplars, labels, strict=True) if y == label)
            assert isinstance(mean, Tensor)
            distances[label] = float((example / example.norm() - mean / mean.norm()).norm())
        assert answer == min(distances, key=lambda label: distances[label])
    assert set(got.tolist()) == {0, 1, 3}


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("mirrored", [False, True])
def test_means_are_those_of_the_exemplars_now_and_of_mirror_images_where_training_mirrors(
    flip: bool, mirrored: bool
) -> None:
    stream = digits()
    assert isinstance(stream.transform, ImageTransform)
    stream = replace(stream, transform=replace(stream.transform, flip=flip))
    learner: Any = strategy("icarl", stream, memory=herded(12), mirrored=mirrored)
    for experience in stream.experiences[:2]:
        learn(learner, shortened(experience, 64))
    rows = stream.experiences[0].train.source.take(learner.memory.rows)
    assert rows["label"].unique().tolist() == [0, 1, 2, 3]
    images = stream.transform.evaluate(rows)["image"]
    features = learner.model.features({"image": images})
    both = torch.cat((features, learner.model.features({"image": images.flip(3)})))
    for label in range(4):
        members = features[rows["label"] == label]
        if flip and mirrored:
            members = both[rows["label"].repeat(2) == label]
        mean = F.normalize(F.normalize(members, dim=1).mean(0), dim=0)
        assert torch.allclose(learner.auxiliary["means"][label], mean, atol=1e-5)


def test_a_pool_of_new_rows_and_exemplars_is_visited_once_per_epoch() -> None:
    stream = digits()
    learner: Any = strategy("icarl", stream, epochs=2, memory=herded(20))
    seen: list[Tensor] = []
    loss = learner.loss

    def watched(batch: Batch) -> Tensor:
        seen.append(batch["label"])
        return loss(batch)  # type: ignore[no-any-return]

    learner.loss = watched
    learn(learner, shortened(stream.experiences[0], 64))
    assert torch.cat(seen).bincount().sum() == 2 * 64
    seen.clear()
    new = shortened(stream.experiences[1], 60)
    learn(learner, new)
    assert torch.cat(seen).bincount()[:2].tolist() == [20, 20]
    assert torch.cat(seen).bincount()[2:].sum() == 2 * 60
    assert max(map(len, seen)) == 32


@pytest.mark.parametrize("setting", OF_CLASSES)
@pytest.mark.parametrize("loss", Loss)
def test_the_loss_of_a_step_is_the_formula(setting: Setting, loss: Loss) -> None:
    stream = digits(setting)
    learner: Any = strategy("icarl", stream, loss=loss, strength=0.7, temperature=1.5)
    learn(learner, shortened(stream.experiences[0], 64))
    first, second = (e.train.select(torch.arange(8)) for e in stream.experiences[:2])
    batch = stream.transform.evaluate(next(first.join(second).batches(16)))
    before = learner.model.eval().all_logits(batch).detach()[:, :2]
    got: list[tuple[Tensor, Tensor]] = []

    def watched(given: Batch) -> Tensor:
        if not got:
            # the first step, before anything has changed: the teacher still answers as the model in evaluation mode
            learner.model.eval()
            got.append((learner.loss_of(batch).detach(), learner.model.all_logits(batch).detach()))
            learner.model.train()
        return learner.loss_of(given)  # type: ignore[no-any-return]

    learner.loss_of, learner.loss = learner.loss, watched
    learn(learner, shortened(stream.experiences[1], 64))
    found, logits = got[0]
    if loss is Loss.BINARY:
        wanted = icarl.binary_loss(logits[:, :4], batch["label"], before, 0.7)
    else:
        wanted = learner.model.cross_entropy(logits, batch) + 0.7 * icarl.distillation(logits[:, :2], before, 1.5)
    assert torch.allclose(found, wanted, atol=1e-5)
    assert learner.teacher is None


def test_with_task_identity_the_outputs_answer_for_a_task_without_means() -> None:
    stream = digits(Setting.TASK_INCREMENTAL)
    learner: Any = strategy("icarl", stream)
    batches = [next(e.test.batches(32)) for e in stream.experiences]
    for learnt in range(3):
        for experience, batch in zip(stream.experiences, batches, strict=True):
            answers = learner.predict(batch)
            assert set(answers.tolist()) <= set(experience.classes)
            by_outputs = learner.model.predict(stream.transform.evaluate(batch))
            if experience.index >= learnt:
                assert torch.equal(answers, by_outputs)
        learn(learner, shortened(stream.experiences[learnt], 64))


def test_it_keeps_more_of_the_old_classes_than_naive() -> None:
    stream = digits()
    old: dict[str, float] = {}
    cases: dict[str, dict[str, Any]] = {"naive": {}, "binary": {}, "softmax": {"loss": Loss.SOFTMAX}}
    for case, values in cases.items():
        learner = strategy("naive" if case == "naive" else "icarl", stream, epochs=3, **values)
        for experience in stream.experiences[:3]:
            learn(learner, experience)
        old[case] = sum(m.correct for m in measure(learner, stream, 3)[:2])
    assert min(old["binary"], old["softmax"]) > old["naive"] + 50


def test_what_is_stored_is_exemplars_and_one_mean_for_each_class() -> None:
    stream = digits()
    learner: Any = strategy("icarl", stream, memory=herded(10))
    for experience in stream.experiences[:2]:
        learn(learner, shortened(experience, 64))
    means = learner.auxiliary["means"]
    assert means.shape == (4, learner.model.backbone.features_out)
    exemplars = Table(stream.experiences[0].train.source, learner.memory.rows)
    assert len(exemplars) == 8
    assert learner.stored_bytes() == 8 * exemplars.source.row_bytes + means.numel() * 4


def test_a_class_that_the_memory_missed_is_never_the_answer() -> None:
    means = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    near = icarl.nearness(torch.tensor([[-3.0, 0.1]]), means)
    assert near.argmax(1).tolist() == [1]
    assert near[0, [0, 2]].tolist() == [float("-inf")] * 2


def test_a_memory_with_fewer_places_than_classes_is_one_sentence_before_the_first_step() -> None:
    stream = digits()
    learner: Any = strategy("icarl", stream, memory=herded(3))
    learn(learner, shortened(stream.experiences[0], 64))
    before = [p.detach().clone() for p in learner.model.parameters()]
    with pytest.raises(IncompatibleError, match=r"4 by experience 1; strategy\.memory\.capacity=3 must be at least"):
        learn(learner, shortened(stream.experiences[1], 64))
    assert all(torch.equal(a, b) for a, b in zip(before, learner.model.parameters(), strict=True))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"memory": MemoryConfig(capacity=0)}, r"strategy\.memory\.capacity must be >= 1 for icarl, got 0"),
        ({"strength": -1.0}, r"strategy\.strength must be >= 0, got -1.0"),
        ({"temperature": 0.0}, r"strategy\.temperature must be > 0, got 0.0"),
    ],
)
def test_values_out_of_range_name_field_rule_and_value(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ICaRLConfig(**values)


def test_it_can_be_built_by_name() -> None:
    assert type(strategies.build(ICaRLConfig(), problem(digits()))) is icarl.ICaRL
