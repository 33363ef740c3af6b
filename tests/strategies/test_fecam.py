from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from clbench.engine import learn
from clbench.errors import ConfigError
from clbench.examination import measure
from clbench.record import Setting
from clbench.strategies import fecam
from clbench.strategies.fecam import FeCAMConfig
from tests.learning import shortened, strategy, stream_for


def reference(features: np.ndarray, gamma1: float, gamma2: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean and inverse normalised covariance of one class, as the paper's equations say it, entry by entry."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    covariance = np.cov(unit.T)
    size = len(covariance)
    v1 = np.mean([covariance[i, i] for i in range(size)])
    v2 = np.mean([covariance[i, j] for i in range(size) for j in range(size) if i != j])
    for i in range(size):
        for j in range(size):
            covariance[i, j] += gamma1 * v1 if i == j else gamma2 * v2
    scale = np.sqrt(np.diag(covariance))
    return unit.mean(0), np.linalg.pinv(covariance / np.outer(scale, scale))


@pytest.mark.parametrize("values", [{}, {"shrinkage": 3.0, "off_diagonal": 1.0}])
def test_scores_are_the_papers_distances_in_float64(values: dict[str, Any]) -> None:
    stream = stream_for("fecam")
    learner: Any = strategy("fecam", stream, **values)
    for experience in stream.experiences:
        learn(learner, experience)
    asked = stream.experiences[3].test.column("feature")
    got = learner.scores(asked)
    unit = asked.double().numpy() / np.linalg.norm(asked.double().numpy(), axis=1, keepdims=True)
    for experience in stream.experiences:
        table = experience.train
        for label in experience.classes:
            members = table.column("feature")[table.column("label") == label].double().numpy()
            mean, inverse = reference(members, values.get("shrinkage", 1.0), values.get("off_diagonal", 0.0))
            wanted = -np.einsum("ni,ij,nj->n", unit - mean, inverse, unit - mean)
            assert np.allclose(got[:, label].numpy(), wanted, rtol=1e-3, atol=1e-5)


def test_with_features_that_are_never_negative_it_is_the_same_on_their_powers() -> None:
    stream = stream_for("fecam", model="small_cnn")
    plain, powered = (strategy("fecam", stream, model="small_cnn", tukey=power) for power in (1.0, 0.5))
    first = stream.experiences[0]
    assert bool((first.train.column("feature") >= 0).all())
    for learner in (plain, powered):
        learn(learner, first)
    source = first.train.source
    source.columns["feature"] = source.columns["feature"].sqrt()
    by_hand = strategy("fecam", stream, model="small_cnn", tukey=1.0)
    learn(by_hand, first)
    asked = first.test.column("feature")
    assert torch.allclose(by_hand.scores(asked.sqrt()), powered.scores(asked), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(plain.scores(asked), powered.scores(asked), rtol=1e-2)


def test_features_with_negative_numbers_are_not_raised_to_a_power() -> None:
    stream = stream_for("fecam")
    scores = []
    for power in (0.3, 1.0):
        learner = strategy("fecam", stream, tukey=power)
        learn(learner, stream.experiences[0])
        scores.append(learner.scores(stream.experiences[0].test.column("feature")))
    assert torch.equal(*scores)


def test_the_final_counts_do_not_depend_on_the_split() -> None:
    totals = []
    for increment in (1, 2, 5):
        stream = stream_for("fecam", increment=increment)
        learner = strategy("fecam", stream)
        for experience in stream.experiences:
            learn(learner, experience)
        totals.append(sum(m.correct for m in measure(learner, stream, len(stream.experiences))))
    assert totals[0] == totals[1] == totals[2]


def test_with_one_image_for_each_class_it_is_the_nearest_mean() -> None:
    stream = stream_for("fecam", increment=1)
    learner = strategy("fecam", stream)
    for experience in stream.experiences:
        learn(learner, shortened(experience, 1))
    means = torch.nn.functional.normalize(torch.cat([e.train.column("feature")[:1] for e in stream.experiences]), dim=1)
    asked = stream.experiences[4].test.column("feature")
    distances = torch.cdist(torch.nn.functional.normalize(asked, dim=1), means)
    assert torch.allclose(learner.scores(asked), -distances.square(), atol=1e-4)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 50])
def test_a_correlation_can_be_inverted_however_few_examples_there_are(count: int) -> None:
    features = torch.randn(count, 8, generator=torch.Generator().manual_seed(0))
    matrix = fecam.correlation(features, 0.1, 0.1)
    root = fecam.inverse_root(matrix)
    identity = torch.eye(8, dtype=torch.float64)
    assert torch.allclose(matrix.diagonal(), torch.ones(8, dtype=torch.float64))
    assert torch.allclose(root.T @ root @ matrix, identity, atol=1e-8)
    if count < 2:
        assert torch.equal(matrix, identity)


def test_a_slice_without_some_of_its_classes_leaves_them_unanswered() -> None:
    stream = stream_for("fecam", Setting.CLASS_INCREMENTAL, increment=5)
    learner = strategy("fecam", stream)
    first = stream.experiences[0]
    present = (first.train.column("label") != 3).nonzero()[:, 0]
    learn(learner, replace(first, train=first.train.select(present)))
    answers = learner.predict({"feature": first.test.column("feature")})
    assert 3 not in answers.tolist()
    assert len(answers.unique()) > 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"shrinkage": 0.0}, r"strategy\.shrinkage must be > 0, got 0.0"),
        ({"off_diagonal": 2.0}, r"strategy\.off_diagonal must be in \[0, strategy\.shrinkage\], got 2.0"),
        ({"tukey": 0.0}, r"strategy\.tukey must be in \(0, 1\], got 0.0"),
    ],
)
def test_values_out_of_range_name_field_rule_and_value(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FeCAMConfig(**values)
