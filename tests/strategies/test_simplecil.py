from __future__ import annotations

from typing import Any

import pytest
import torch
from sklearn.metrics.pairwise import cosine_similarity

from clbench.engine import learn
from clbench.errors import CheckpointError
from clbench.examination import measure
from clbench.record import Setting
from tests.learning import shortened, strategy, stream_for


def learnt(seed: int = 0, increment: int = 2, setting: Setting = Setting.CLASS_INCREMENTAL) -> tuple[Any, Any]:
    stream = stream_for("simplecil", setting, seed, increment, model="small_cnn")
    learner = strategy("simplecil", stream, model="small_cnn")
    for experience in stream.experiences:
        learn(learner, experience)
    return learner, stream


def test_the_final_counts_depend_neither_on_the_split_nor_on_the_order_of_the_classes() -> None:
    totals = set()
    for seed, increment in ((0, 1), (0, 2), (0, 5), (1, 1), (2, 2)):
        learner, stream = learnt(seed, increment)
        counts = measure(learner, stream, len(stream.experiences))
        totals.add((sum(m.correct for m in counts), sum(m.total for m in counts)))
    assert len(totals) == 1
    right, asked = totals.pop()
    assert right > 0.4 * asked  # chance is a tenth, and the backbone has drawn its weights at random


def test_the_answers_are_scikit_learns_nearest_centroids_by_angle() -> None:
    learner, stream = learnt()
    train, test = ([getattr(e, split) for e in stream.experiences] for split in ("train", "test"))
    features = torch.cat([t.column("feature") for t in train]).double().numpy()
    labels = torch.cat([t.column("label") for t in train]).numpy()
    means = torch.stack([torch.from_numpy(features[labels == c].mean(0)) for c in range(10)]).numpy()
    asked = torch.cat([t.column("feature") for t in test])
    wanted = torch.from_numpy(cosine_similarity(asked.double().numpy(), means)).argmax(1)
    assert (learner.predict({"feature": asked}) == wanted).float().mean() > 0.99


def test_one_image_for_each_class_is_enough() -> None:
    stream = stream_for("simplecil", increment=1)
    learner = strategy("simplecil", stream)
    for experience in stream.experiences:
        learn(learner, shortened(experience, 1))
    firsts = torch.cat([e.train.column("feature")[:1] for e in stream.experiences])
    assert learner.predict({"feature": firsts}).tolist() == list(range(10))


def test_before_a_task_is_learnt_its_first_class_answers() -> None:
    stream = stream_for("simplecil", Setting.TASK_INCREMENTAL)
    learner = strategy("simplecil", stream)
    for number, experience in enumerate(stream.experiences):
        for later in stream.experiences[number:]:
            assert set(learner.predict(next(later.test.batches(32))).tolist()) == {later.classes[0]}
        learn(learner, experience)
        assert set(learner.predict(next(experience.test.batches(64))).tolist()) == set(experience.classes)


def test_what_is_kept_is_one_mean_for_each_class_and_nothing_is_trained() -> None:
    learner, _ = learnt()
    backbone = sum(p.numel() for p in learner.model.backbone.parameters())
    assert learner.stored_bytes() == 10 * 16 * 4
    assert learner.parameters() == (backbone, 0)


def test_a_state_of_another_backbone_is_one_sentence() -> None:
    learner, stream = learnt()
    with pytest.raises(CheckpointError, match="begun with other weights of the backbone"):
        strategy("simplecil", stream, seed=1, model="small_cnn").restore(learner.state())
