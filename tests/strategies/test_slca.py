from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clbench.engine import learn
from clbench.errors import ConfigError
from clbench.examination import measure
from clbench.finetune import Optimizer, Schedule
from clbench.memory import MemoryConfig
from clbench.models.classifier import Classifier
from clbench.models.head import CosineHead, LinearHead
from clbench.record import Setting
from clbench.strategies import slca
from clbench.strategies.slca import SLCAConfig
from clbench.table import Batch
from tests.learning import OF_CLASSES, digits, problem, shortened, strategy


def test_older_means_are_shorter_by_the_papers_rule() -> None:
    mean = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    got, tasks = slca.decayed(mean, [3, 1, 2], 0.1), [0, 0, 0, 1, 2, 2]
    for label, task in enumerate(tasks):
        assert torch.allclose(got[label], mean[label] * (0.9 + 0.1 * (task + 1) / 3), atol=1e-15)


def test_logits_are_divided_by_the_mean_of_the_experiences_norms_and_the_temperature() -> None:
    logits = torch.randn(5, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    got = slca.normalised(logits, [3, 1, 2], 0.1)
    for z, row in zip(logits.tolist(), got.tolist(), strict=True):
        norms = [sum(x * x for x in part) ** 0.5 for part in (z[:3], z[3:4], z[4:])]
        for x, y in zip(z, row, strict=True):
            assert abs(y - x / (sum(norms) / 3) / 0.1) < 1e-4
    assert torch.allclose(slca.normalised(7 * logits, [3, 1, 2], 0.1), got, atol=1e-5)


@pytest.mark.parametrize("setting", OF_CLASSES)
def test_one_step_moves_the_backbone_a_hundredth_as_fast_and_the_new_rows_alone_of_the_head(setting: Setting) -> None:
    stream = digits(setting)
    learner: Any = strategy("slca", stream, align_epochs=0, batch_size=64, lr=0.5, weight_decay=0.1)
    learn(learner, shortened(stream.experiences[0], 64))
    second = shortened(stream.experiences[1], 64)
    model = copy.deepcopy(learner.model)
    seen: list[tuple[Tensor, Batch]] = []
    loss = learner.loss

    def watched(batch: Batch) -> Tensor:
        model.load_state_dict(learner.model.state_dict())  # the head has grown
        seen.append((loss(batch), batch))
        return seen[0][0]

    model.grow(second.outputs)
    learner.loss = watched
    learn(learner, second)
    (value, batch), *more = seen
    assert not more
    logits = model.head(model.features(batch))
    wanted = F.cross_entropy(logits[:, 2:4], batch["label"] - 2)
    assert torch.allclose(value, wanted)
    wanted.backward()
    for (name, before), after in zip(model.named_parameters(), learner.model.parameters(), strict=True):
        step = before.grad + 0.1 * before.detach()
        expected = before.detach() - 0.5 * (0.01 if name.startswith("backbone") else 1.0) * step
        if name.startswith("head"):
            others = [row for row in range(len(before)) if row not in (2, 3)]
            assert torch.equal(after[others], before[others])
            expected, after = expected[2:4], after[2:4]
        assert torch.allclose(after, expected, atol=1e-6)
    assert learner.trained == sum(p.numel() for p in model.backbone.parameters()) + 2 * (model.head.weight.shape[1] + 1)


def test_each_alignment_begins_from_the_rows_that_training_left() -> None:
    stream = digits()
    learner: Any = strategy("slca", stream, align_epochs=2)
    rows: list[Tensor] = []
    answers: list[Tensor] = []
    loss = learner.loss

    def watched(batch: Batch) -> Tensor:
        rows.append(learner.model.head.weight.detach().clone())
        return loss(batch)  # type: ignore[no-any-return]

    learner.loss = watched
    for experience in stream.experiences[:3]:
        learn(learner, shortened(experience, 64))
        answers.append(learner.model.head.weight.detach().clone())
    first, second, third = rows
    assert torch.equal(answers[0], learner.auxiliary["head_weight"][:2])  # nothing to align the first with
    assert torch.equal(second[:2], answers[0])
    assert not torch.equal(answers[1][:2], second[:2])
    assert torch.equal(third[:2], answers[0])
    assert torch.equal(third[2:4], learner.auxiliary["head_weight"][2:4])
    assert not torch.equal(third[2:4], answers[1][2:4])
    assert len(first) == 2


def test_a_class_leaves_the_gaussian_of_its_features_at_the_time() -> None:
    stream = digits()
    learner: Any = strategy("slca", stream, backbone_rate=1.0)
    kept = []
    for experience in stream.experiences[:2]:
        experience = shortened(experience, 64)
        learn(learner, experience)
        labels = experience.train.column("label")
        images = stream.transform.evaluate(experience.train.source.take(experience.train.rows))
        features = learner.model.eval().features(images).detach()
        kept += [features[labels == label] for label in experience.classes]
    for label, features in enumerate(kept):
        root = learner.auxiliary["gaussian_root"][label]
        assert torch.allclose(learner.auxiliary["gaussian_mean"][label], features.mean(0), atol=1e-5)
        assert torch.allclose(root.T @ root, features.T.cov(), atol=1e-5)


def test_on_good_features_alignment_gives_the_old_classes_back() -> None:
    stream, old = digits(), []

    class Pixels(nn.Flatten):
        features_out = 64

    told = replace(problem(stream), model=lambda: Classifier(Pixels(), LinearHead(64, 0), None))
    for epochs in (0, 5):
        learner = slca.SLCA(SLCAConfig(epochs=3, align_epochs=epochs), told)
        for experience in stream.experiences:
            learn(learner, experience)
        old.append(sum(m.correct for m in measure(learner, stream, 5)[:4]) / 288)
    assert old[0] < 0.8
    assert old[1] > old[0] + 0.1


def test_the_rate_falls_to_a_tenth_for_the_last_tenth() -> None:
    stream = digits()
    learner: Any = strategy("slca", stream, epochs=10, batch_size=64)
    rates: list[tuple[float, ...]] = []
    step = learner._step

    def watched(optimizer: torch.optim.Optimizer, trainable: Any) -> None:
        rates.append(tuple(group["lr"] for group in optimizer.param_groups))
        step(optimizer, trainable)

    learner._step = watched
    learn(learner, shortened(stream.experiences[0], 64))
    assert rates == [pytest.approx((1e-4, 1e-2))] * 9 + [pytest.approx((1e-5, 1e-3))]


def test_experiences_of_one_class_can_be_learnt() -> None:
    stream = digits(increment=1)
    learner: Any = strategy("slca", stream)
    for experience in stream.experiences[:3]:
        learn(learner, shortened(experience, 40))
    assert learner.model.outputs == 3
    assert all(p.isfinite().all() for p in learner.model.parameters())


def test_a_head_without_a_bias_is_refused_and_any_backbone_taken() -> None:
    plain = problem(digits())
    assert slca.SLCA.skip(SLCAConfig(), plain) is None

    def cosine() -> Classifier:
        model = plain.model()
        return Classifier(model.backbone, CosineHead(4, 0), None)

    assert slca.SLCA.skip(SLCAConfig(), replace(plain, model=cosine)) == (
        "it aligns a linear head, so it needs model.head=linear"
    )


def test_defaults_are_the_authors() -> None:
    config = SLCAConfig()
    assert (config.lr * config.backbone_rate, config.batch_size, config.epochs) == (1e-4, 128, 20)
    assert (config.optimizer, config.schedule) == (Optimizer.SGD, Schedule.LATE_STEP)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"memory": MemoryConfig(capacity=5)}, r"strategy\.memory\.capacity must be 0 for slca, got 5"),
        ({"backbone_rate": -1.0}, r"strategy\.backbone_rate must be >= 0, got -1.0"),
        ({"temperature": 0.0}, r"strategy\.temperature must be > 0 or null, got 0.0"),
        ({"decay": 2.0}, r"strategy\.decay must be in \[0, 1\], got 2.0"),
    ],
)
def test_values_out_of_range_name_field_rule_and_value(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SLCAConfig(**values)
