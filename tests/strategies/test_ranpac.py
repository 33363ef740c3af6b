from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from clbench.engine import learn
from clbench.errors import ConfigError
from clbench.examination import measure
from clbench.memory import MemoryConfig
from clbench.record import Setting
from clbench.strategies import ranpac
from clbench.strategies.ranpac import RIDGES, RanPAC, RanPACConfig
from tests.learning import digits, problem, shortened, strategy, stream_for

FROZEN: dict[str, Any] = {"phase1": False, "projection": 60}


def learnt(stream: Any, **values: Any) -> Any:
    learner = strategy("ranpac", stream, model="small_cnn", **values)
    for experience in stream.experiences:
        learn(learner, experience)
    return learner


def hidden(learner: Any, table: Any) -> np.ndarray:
    projected = table.column("feature").double().numpy() @ learner.auxiliary["projection"].double().numpy()
    rows: np.ndarray = np.maximum(projected, 0)
    return rows


def test_after_the_last_experience_it_is_scikit_learns_ridge_regression_on_all_data() -> None:
    stream = stream_for("ranpac", model="small_cnn", **FROZEN)
    learner = learnt(stream, ridge=3.0, **FROZEN)
    features = np.concatenate([hidden(learner, e.train) for e in stream.experiences])
    labels = torch.cat([e.train.column("label") for e in stream.experiences]).numpy()
    ridge = Ridge(alpha=3.0, fit_intercept=False, solver="svd").fit(features, np.eye(10)[labels])
    assert np.allclose(learner.auxiliary["weight"].numpy(), ridge.coef_.T, atol=1e-4)
    asked = stream.experiences[1].test
    wanted = ridge.predict(hidden(learner, asked)).argmax(1)
    assert (learner.predict({"feature": asked.column("feature")}).numpy() == wanted).mean() > 0.99


def test_with_a_fixed_ridge_the_split_and_the_order_of_the_classes_do_not_matter() -> None:
    counts, columns = [], []
    for seed, increment in ((0, 1), (0, 2), (0, 5), (1, 2)):
        stream = stream_for("ranpac", seed=seed, increment=increment, model="small_cnn", **FROZEN)
        learner = learnt(stream, ridge=10.0, **FROZEN)
        counts.append(sum(m.correct for m in measure(learner, stream, len(stream.experiences))))
        columns.append(learner.auxiliary["weight"])
    assert max(counts) - min(counts) <= 1  # a tie may fall otherwise by rounding
    assert counts[0] > 360 * 0.4
    assert torch.allclose(columns[0], columns[1], atol=1e-5)
    assert torch.allclose(columns[0], columns[2], atol=1e-5)


@pytest.mark.parametrize("examples", [20, 200])
def test_the_ridge_is_chosen_by_the_error_of_scikit_learns_regression_on_the_last_fifth(examples: int) -> None:
    draws = np.random.RandomState(0)
    features = np.maximum(draws.randn(examples, 30), 0)
    targets = np.eye(3)[draws.randint(3, size=examples)]
    cut = examples * 4 // 5
    got = ranpac.held_out_errors(torch.from_numpy(features), torch.from_numpy(targets))
    wanted = []
    for ridge in RIDGES:
        model = Ridge(alpha=ridge, fit_intercept=False, solver="svd").fit(features[:cut], targets[:cut])
        wanted.append(np.mean((model.predict(features[cut:]) - targets[cut:]) ** 2))
    assert np.allclose(got, wanted, rtol=1e-4)
    assert 0 < int(np.argmin(wanted)) < len(RIDGES) - 1


def test_the_ridge_that_was_used_is_noted_and_one_that_is_too_small_is_raised() -> None:
    stream = stream_for("ranpac", model="small_cnn", **FROZEN)
    learner = learnt(stream, **FROZEN)
    assert learner.notes()["ridge"] in RIDGES
    # 30 examples cannot span 2,000 random features: without a ridge of some size G is singular
    wide = {"phase1": False, "projection": 2000}
    tiny = strategy("ranpac", stream, model="small_cnn", ridge=1e-30, **wide)
    learn(tiny, shortened(stream.experiences[0], 30))
    assert tiny.notes()["ridge"] > 1e-30
    assert bool(tiny.auxiliary["weight"].isfinite().all())


@pytest.mark.parametrize("ridge", [None, 1e-6])
def test_one_image_for_each_class_is_enough_and_leaves_the_ridge(ridge: float | None) -> None:
    stream = stream_for("ranpac", increment=1, model="small_cnn", **FROZEN)
    learner = strategy("ranpac", stream, model="small_cnn", ridge=ridge, **FROZEN)
    for experience in stream.experiences:
        learn(learner, shortened(experience, 1))
    assert learner.notes() == {"ridge": ridge or 1.0}
    if ridge is None:
        return
    firsts = torch.cat([e.train.column("feature")[:1] for e in stream.experiences])
    assert learner.predict({"feature": firsts}).tolist() == list(range(10))


def test_a_single_class_does_not_decide_the_ridge() -> None:
    stream = stream_for("ranpac", model="small_cnn", **FROZEN)
    learner = strategy("ranpac", stream, model="small_cnn", **FROZEN)
    learn(learner, stream.experiences[0])
    chosen = learner.notes()
    alone = stream_for("ranpac", increment=1, model="small_cnn", **FROZEN).experiences[2]
    learn(learner, alone)
    assert learner.notes() == chosen != {"ridge": 1.0}


def test_phase_1_trains_adapters_and_head_in_the_first_experience_only() -> None:
    stream = digits()
    learner = strategy("ranpac", stream, projection=50, lr=0.05)
    before = {name: p.detach().clone() for name, p in learner.model.backbone.named_parameters()}
    learn(learner, shortened(stream.experiences[0], 96))
    after = {name: p.detach().clone() for name, p in learner.model.backbone.named_parameters()}
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"down_weight", "down_bias", "up_weight", "up_bias"}
    adapters = sum(after[name].numel() for name in moved)
    assert learner.parameters()[1] == adapters + 2 * learner.width + 1
    head = learner.model.head.weight.detach().clone()
    learn(learner, shortened(stream.experiences[1], 96))
    assert all(torch.equal(p, after[name]) for name, p in learner.model.backbone.named_parameters())
    assert torch.equal(learner.model.head.weight, head)
    assert learner.parameters()[1] == 0


def test_phase_2_takes_the_adapted_features_of_all_experiences_in_evaluation_mode() -> None:
    stream = digits()
    learner = strategy("ranpac", stream, projection=50, lr=0.05)
    tables = []
    for experience in stream.experiences[:2]:
        experience = shortened(experience, 64)
        tables.append(experience.train)
        learn(learner, experience)
    learner.model.eval()
    gram = torch.zeros(50, 50, dtype=torch.float64)
    for table in tables:
        images = stream.transform.evaluate(table.source.take(table.rows))["image"]
        with torch.no_grad():
            rows = (learner.model.backbone(images) @ learner.auxiliary["projection"]).relu().double()
        gram += rows.T @ rows
    assert torch.allclose(learner.auxiliary["gram"], gram, rtol=1e-4, atol=1e-4)


def test_adapters_need_a_transformer_and_frozen_features_do_not() -> None:
    cnn = problem(digits(), model="small_cnn")
    assert "vision transformer" in (RanPAC.skip(RanPACConfig(), cnn) or "")
    assert RanPAC.skip(RanPACConfig(phase1=False), cnn) is None
    assert RanPAC.skip(RanPACConfig(), problem(digits(), model="small_vit")) is None


def test_with_task_identity_an_unlearnt_task_answers_with_its_first_class() -> None:
    stream = stream_for("ranpac", Setting.TASK_INCREMENTAL, model="small_cnn", **FROZEN)
    learner = strategy("ranpac", stream, model="small_cnn", **FROZEN)
    learn(learner, stream.experiences[0])
    last = stream.experiences[4]
    assert set(learner.predict(next(last.test.batches(32))).tolist()) == {last.classes[0]}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"projection": 0}, r"strategy\.projection must be >= 1, got 0"),
        ({"ridge": 0.0}, r"strategy\.ridge must be > 0 or null, got 0.0"),
        ({"rank": 0}, r"strategy\.rank must be >= 1, got 0"),
        ({"memory": MemoryConfig(capacity=5)}, r"strategy\.memory\.capacity must be 0"),
    ],
)
def test_values_out_of_range_name_field_rule_and_value(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RanPACConfig(**values)
