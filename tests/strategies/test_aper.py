from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from clbench.engine import learn
from clbench.errors import ConfigError
from clbench.examination import measure
from clbench.memory import MemoryConfig
from clbench.record import Setting
from clbench.strategies.aper import APER, APERConfig
from tests.learning import OF_CLASSES, digits, problem, shortened, strategy, stream_for


def both(learner: Any, stream: Any, table: Any) -> torch.Tensor:
    """Features as they came, from the weights before adaptation, and adapted, both computed anew."""
    images = stream.transform.evaluate(table.source.take(table.rows))["image"]
    adapted = learner.model.backbone.eval()
    with torch.no_grad():
        return torch.cat((adapted.transformer(images), adapted(images)), 1)


def test_means_are_of_both_features_side_by_side_for_all_experiences() -> None:
    stream = stream_for("aper")
    learner: Any = strategy("aper", stream, lr=0.05)
    tables = []
    for experience in stream.experiences[:3]:
        experience = shortened(experience, 64)
        learn(learner, experience)
        tables.append(experience.train)
    for label in range(6):
        table = tables[label // 2]
        members = both(learner, stream, table)[table.column("label") == label]
        assert torch.allclose(learner.auxiliary["means"][label], members.mean(0), atol=1e-4)
    halves = learner.auxiliary["means"].split(learner.width, 1)
    assert not torch.allclose(halves[0], halves[1], atol=1e-3)
    asked = stream.experiences[1].test
    wanted = F.cosine_similarity(both(learner, stream, asked)[:, None], learner.auxiliary["means"], dim=2).argmax(1)
    shown = {name: c for name, c in asked.source.take(asked.rows).items() if name in ("image", "feature")}
    assert (learner.predict(shown) == wanted).float().mean() > 0.98


def test_a_gradient_flows_through_the_images_although_the_batch_brings_features() -> None:
    stream = stream_for("aper")
    learner: Any = strategy("aper", stream)
    before = learner.model.backbone.weights.copy()
    frozen = [p.detach().clone() for p in learner.model.backbone.transformer.parameters()]
    learn(learner, shortened(stream.experiences[0], 96))
    after = learner.model.backbone.weights.copy()
    assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert learner.parameters()[1] == sum(t.numel() for t in after) + 2 * learner.width + 1
    learn(learner, shortened(stream.experiences[1], 96))
    assert all(torch.equal(a, b) for a, b in zip(after, learner.model.backbone.weights, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(frozen, learner.model.backbone.transformer.parameters(), strict=True))
    assert learner.parameters()[1] == 0


def test_after_the_first_experience_the_split_does_not_matter() -> None:
    """The same first experience; what follows one class at a time or five at once ends in the same means."""
    whole, parts = (stream_for("aper", increment=n) for n in (5, 1))
    learners = []
    for later in (whole.experiences[1:], parts.experiences[5:]):
        learner: Any = strategy("aper", whole)
        learn(learner, shortened(whole.experiences[0], 96))
        for experience in later:
            learn(learner, experience)
        learners.append(learner)
    assert torch.allclose(learners[0].auxiliary["means"], learners[1].auxiliary["means"], atol=1e-5)


@pytest.mark.parametrize("setting", OF_CLASSES)
def test_one_image_for_each_class_and_one_class_for_each_experience(setting: Setting) -> None:
    stream = stream_for("aper", setting, increment=1)
    learner = strategy("aper", stream)
    for experience in stream.experiences:
        learn(learner, shortened(experience, 1))
    counts = measure(learner, stream, 10)
    if setting is Setting.TASK_INCREMENTAL:
        assert all(m.correct == m.total for m in counts)
    assert sum(m.correct for m in counts) > 0.12 * 360


def test_it_needs_a_vision_transformer_and_no_memory() -> None:
    assert "vision transformer" in (APER.skip(APERConfig(), problem(digits(), model="small_cnn")) or "")
    with pytest.raises(ConfigError, match=r"strategy\.memory\.capacity must be 0"):
        APERConfig(memory=MemoryConfig(capacity=10))
