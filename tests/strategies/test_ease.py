from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from clbench.engine import learn
from clbench.errors import ConfigError
from clbench.memory import MemoryConfig
from clbench.models.adapters import AdapterWeights
from clbench.record import Setting
from clbench.strategies import ease
from clbench.strategies.ease import EaseConfig
from clbench.table import Batch
from tests.learning import OF_CLASSES, digits, problem, shortened, strategy

TASKS = [0, 0, 0, 1, 2, 2, 3]


def drawn(*shapes: tuple[int, ...], seed: int = 0) -> list[Tensor]:
    draws = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=draws, dtype=torch.float64) for shape in shapes]


def cosine(a: Tensor, b: Tensor) -> float:
    return float(F.cosine_similarity(a, b, dim=0))


def test_missing_prototypes_are_later_classes_weighted_by_likeness_in_the_classes_own_space() -> None:
    (given,) = drawn((4, 7, 5))
    got = ease.completed(given, torch.tensor(TASKS))
    for space in range(4):
        for label, own in enumerate(TASKS):
            wanted = given[space, label]
            if space > own:
                later = [n for n in range(7) if TASKS[n] >= space]
                shares = [math.exp(cosine(given[own, label], given[own, n])) for n in later]
                terms = [share * given[space, n] for share, n in zip(shares, later, strict=True)]
                wanted = torch.stack(terms).sum(0) / sum(shares)
            assert torch.allclose(got[space, label], wanted, atol=1e-12)


@pytest.mark.parametrize("spaces", [1, 4])
def test_a_score_is_the_cosine_in_the_classes_own_space_and_alpha_times_the_mean_of_the_others(spaces: int) -> None:
    features, prototypes = drawn((spaces, 3, 5), (spaces, 7, 5))
    tasks = TASKS if spaces == 4 else [0] * 7
    got = ease.scores(features, prototypes, torch.tensor(tasks), 0.3)
    for i in range(3):
        for label, own in enumerate(tasks):
            near = [cosine(features[s, i], prototypes[s, label]) for s in range(spaces)]
            others = [near[s] for s in range(spaces) if s != own]
            wanted = near[own] + (0.3 / (spaces - 1) * sum(others) if others else 0)
            assert abs(float(got[i, label]) - wanted) < 1e-12


def test_each_experience_trains_fresh_adapters_and_leaves_all_others_as_they_are() -> None:
    stream = digits()
    learner: Any = strategy("ease", stream, rank=3)
    net, begun = learner.adapted, []
    loss = learner.loss

    def watched(batch: Batch) -> Tensor:
        begun.append([tensor.clone() for tensor in net.weights.copy()])
        return loss(batch)  # type: ignore[no-any-return]

    learner.loss = watched
    ended, sizes, steps = [], [], []
    for experience in stream.experiences[:3]:
        steps.append(len(begun))
        learn(learner, shortened(experience, 64))
        ended.append([tensor.clone() for tensor in net.weights.copy()])
        sizes.append(learner.parameters())
    for step, end in zip(steps, ended, strict=True):
        down, down_bias, up, up_bias = begun[step]
        assert down.any()
        assert torch.cat((down_bias, up.flatten(1), up_bias), 1).count_nonzero() == 0
        assert not torch.equal(end[2], up)
    assert not torch.equal(begun[steps[1]][0], ended[0][0])
    assert all(torch.equal(a, b) for a, b in zip(net.earlier, [*ended[0], *ended[1]], strict=True))
    # width 4, rank 3 in 4 blocks; the head that trains is thrown away, the model's own grows
    adapters, head = 4 * (2 * 3 * 4 + 3 + 4), 2 * 4 + 1
    assert [trained for _, trained in sizes] == [adapters + head] * 3
    assert [b[0] - a[0] for a, b in pairwise(sizes)] == [adapters + 2 * 5] * 2
    assert learner.stored_bytes() == 4 * 3 * 6 * 4 + 8 * 6


def test_prototypes_and_answers_are_those_of_separate_passes() -> None:
    stream = digits()
    learner: Any = strategy("ease", stream, rank=3, lr=0.3, alpha=0.5)
    net = learner.adapted
    experiences = [shortened(e, 64) for e in stream.experiences[:3]]
    for experience in experiences:
        learn(learner, experience)
    net.eval()
    adapters = [AdapterWeights(*list(net.earlier)[i : i + 4]) for i in (0, 4)] + [net.weights.copy()]

    def features(batch: Batch, space: int) -> Tensor:
        with torch.no_grad():
            return net.finish(net.begin(stream.transform.evaluate(batch)["image"]), adapters[space])  # type: ignore[no-any-return]

    prototypes = torch.zeros(3, 6, net.features_out)
    for task, experience in enumerate(experiences):
        batch = experience.train.source.take(experience.train.rows)
        for space in range(task + 1):
            for label in experience.classes:
                prototypes[space, label] = features(batch, space)[batch["label"] == label].mean(0)
    whole = ease.completed(prototypes, torch.tensor([0, 0, 1, 1, 2, 2]))
    assert torch.allclose(learner.auxiliary["prototypes"], whole, atol=1e-5)
    asked = next(stream.experiences[0].test.batches(32))
    near = torch.stack([features(asked, space) for space in range(3)])
    wanted = ease.scores(near, whole, torch.tensor([0, 0, 1, 1, 2, 2]), 0.5)
    best = wanted.topk(2).values
    sure = best[:, 0] - best[:, 1] > 1e-4
    assert sure.sum() > 20
    assert torch.equal(learner.predict(asked)[sure], wanted.argmax(1)[sure])


@pytest.mark.parametrize("setting", OF_CLASSES)
def test_the_loss_is_that_of_a_cosine_head_over_the_new_classes(setting: Setting) -> None:
    stream = digits(setting)
    learner: Any = strategy("ease", stream)
    learn(learner, shortened(stream.experiences[0], 64))
    learner.model.grow(stream.experiences[1].outputs)
    learner.begin(stream.experiences[1])
    learner.model.eval()
    batch = stream.transform.evaluate(next(stream.experiences[1].test.batches(8)))
    with torch.no_grad():
        found, features, wanted = float(learner.loss(batch)), learner.model.features(batch), 0.0
    for feature, label in zip(features, batch["label"].tolist(), strict=True):
        exponentials = [math.exp(cosine(feature, row)) for row in learner.new.weight.detach()]  # the scale begins at 1
        wanted -= math.log(exponentials[label - 2] / sum(exponentials)) / 8
    assert abs(found - wanted) < 1e-5


def test_with_task_identity_the_outputs_answer_for_a_task_without_prototypes() -> None:
    stream = digits(Setting.TASK_INCREMENTAL)
    learner: Any = strategy("ease", stream)
    batches = [next(e.test.batches(32)) for e in stream.experiences]
    for learnt in range(3):
        for experience, batch in zip(stream.experiences, batches, strict=True):
            assert set(learner.predict(batch).tolist()) <= set(experience.classes)
        learn(learner, shortened(stream.experiences[learnt], 64))


def test_experiences_of_one_class_can_be_learnt() -> None:
    stream = digits(increment=1)
    learner: Any = strategy("ease", stream)
    for experience in stream.experiences[:3]:
        learn(learner, shortened(experience, 40))
    found = learner.auxiliary["prototypes"]
    assert found.isfinite().all()
    assert torch.equal(found[2, 0], found[2, 2])  # a single later class is all there is to be like


def test_a_backbone_without_blocks_is_refused() -> None:
    assert "not a plain vision transformer" in str(ease.Ease.skip(EaseConfig(), problem(digits())))
    assert ease.Ease.skip(EaseConfig(), problem(digits(), model="small_vit")) is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"memory": MemoryConfig(capacity=5)}, r"strategy\.memory\.capacity must be 0 for ease, got 5"),
        ({"rank": 0}, r"strategy\.rank must be >= 1, got 0"),
        ({"dropout": 1.0}, r"strategy\.dropout must be in \[0, 1\), got 1.0"),
        ({"alpha": -0.1}, r"strategy\.alpha must be >= 0, got -0.1"),
    ],
)
def test_values_out_of_range_name_field_rule_and_value(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EaseConfig(**values)
