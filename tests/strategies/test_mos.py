from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from clbench.engine import learn
from clbench.examination import measure
from clbench.finetune import Optimizer, Schedule
from clbench.images.gaussians import Covariance
from clbench.models.adapters import AdapterWeights
from clbench.record import Setting
from clbench.scenario import Experience, Stream, scenarios
from clbench.strategies import mos as mos_module
from clbench.strategies.mos import Merge, orthogonality_loss, pulled
from clbench.strategy import strategies
from clbench.table import Batch
from tests.learning import digits, problem, shortened, strategy

STREAM = digits()


def learnt(experiences: int, examples: int = 64, **values: Any) -> Any:
    learner = strategy("mos", STREAM, **{"lr": 0.2, "epochs": 2} | values)
    for experience in STREAM.experiences[:experiences]:
        learn(learner, shortened(experience, examples))
    return learner


def held_out(after: int, size: int = 96) -> Batch:
    """Test images of the experiences learnt so far, without labels."""
    images = [e.test.column("image") for e in STREAM.experiences[:after]]
    return {"image": torch.cat(images)[:size]}


def asked_of_every_set(learner: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """The paper's way, image by image, with features under all sets of adapters: answers and scores."""
    learner.model.eval()
    images = learner.problem.transform.evaluate(batch)["image"]
    sets = [AdapterWeights(*(part[:, task] for part in learner.stored)) for task in range(learner.tasks)]
    with torch.no_grad():
        features = [learner.adapted.finish(learner.adapted.begin(images), weights) for weights in sets]
    answers, scores = [], []
    for row in range(len(images)):
        near = F.cosine_similarity(features[0][row][None], learner.auxiliary["means"])
        task = int(learner.task_of_class[near.argmax()])
        for turn in range(1, 5):
            logits = learner.head(features[task][row])
            named = int(learner.task_of_class[logits.argmax()])
            if named == task:
                break
            if turn < 4:
                task = named
        score = logits.softmax(0) + (learner.tasks * near).softmax(0)
        answers.append(int(score.argmax()))
        scores.append(score)
    return torch.tensor(answers), torch.stack(scores)


@pytest.mark.parametrize("merge", Merge)
def test_asking_only_the_sets_that_are_visited_gives_the_answers_of_asking_all(merge: Merge) -> None:
    learner = learnt(5, merge=merge)
    batch = held_out(5, 360)
    expected, scores = asked_of_every_set(learner, batch)
    got = learner.predict(batch)
    ties = scores.topk(2, 1).values.diff(dim=1).abs()[:, 0] < 1e-4
    assert torch.equal(got[~ties], expected[~ties])
    assert int(ties.sum()) < 5
    if merge is Merge.NONE:  # else the comparison would be an empty one
        tasks = learner.answer(batch).tasks
        assert len(tasks) > 1
        assert bool((tasks[0] != tasks[-1]).any())


def test_answers_do_not_depend_on_the_rest_of_the_batch() -> None:
    learner = learnt(4, merge=Merge.NONE)
    batch = held_out(4, 60)
    alone = torch.cat([learner.predict({"image": image[None]}) for image in batch["image"]])
    assert torch.equal(learner.predict(batch), alone)


@pytest.mark.parametrize("merge", Merge)
def test_stored_adapters_never_change(merge: Merge) -> None:
    learner = learnt(2, merge=merge)
    before = [part.clone() for part in learner.stored]
    measure(learner, STREAM, 2)
    learn(learner, shortened(STREAM.experiences[2], 64))
    for old, new in zip(before, learner.stored, strict=True):
        assert torch.equal(old, new[:, :2])


def test_old_means_under_the_first_adapters_stay_as_later_tasks_come() -> None:
    learner = learnt(2)
    means = learner.auxiliary["means"].clone()
    learn(learner, shortened(STREAM.experiences[2], 64))
    assert torch.equal(learner.auxiliary["means"][: len(means)], means)


def test_a_mean_is_that_of_the_features_under_the_first_adapters() -> None:
    learner = learnt(2)
    learner.model.eval()
    table = shortened(STREAM.experiences[1], 64).train
    label = int(table.column("label")[0])
    images = learner.problem.transform.evaluate({"image": table.column("image")[table.column("label") == label]})
    first = AdapterWeights(*(part[:, 0] for part in learner.stored))
    with torch.no_grad():
        features = learner.adapted.finish(learner.adapted.begin(images["image"]), first)
    assert torch.allclose(learner.auxiliary["means"][label], features.mean(0), atol=1e-5)


def distance(merge: Merge, **values: Any) -> float:
    return float(learnt(2, merge=merge, epochs=4, **values).notes()["distance_from_first_adapters"])


def test_the_more_often_adapters_are_merged_the_nearer_they_stay_to_the_first() -> None:
    reference, step, end, never = (distance(m) for m in (Merge.REFERENCE, Merge.STEP, Merge.TASK_END, Merge.NONE))
    assert reference < step < end < never
    assert abs(end - 0.9 * never) < 1e-4  # one pull by a tenth, towards the first set


def test_one_training_step_of_the_reference_pulls_once_per_block_and_once_more() -> None:
    learner = learnt(1, merge=Merge.REFERENCE)
    learner.begin(STREAM.experiences[1])
    learner.model.grow(4)
    depth = learner.adapted.transformer.depth
    with torch.no_grad():
        for weight in learner.adapted.weights:
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)))
    start = learner.adapted.weights.copy()
    mean = AdapterWeights(*(part[:, 0] for part in learner.stored))
    batch = learner.problem.transform.evaluate(next(STREAM.experiences[1].train.batches(8)))
    learner.model.eval()  # no dropout
    got = learner.loss(batch)
    got.backward()
    learner.after_step()
    for weight, began, m in zip(learner.adapted.weights, start, mean, strict=True):
        assert torch.allclose(weight - m, 0.9 ** (depth + 1) * (began - m), atol=1e-6)
    steps = [pulled(start, mean, 0.1, block + 1) for block in range(depth)]
    passed = AdapterWeights(*(torch.stack([s[part][i] for i, s in enumerate(steps)]) for part in range(4)))
    features = learner.adapted.finish(learner.adapted.begin(batch["image"]), passed)
    logits = learner.head(features)[:, 2:4]
    expected = F.cross_entropy(logits, batch["label"] - 2)
    expected = expected + 0.1 * orthogonality_loss(features, learner.gaussians.mean)
    assert torch.allclose(got, expected, atol=1e-5)


def test_pulling_often_is_one_longer_pull() -> None:
    learner = learnt(1)
    mean = AdapterWeights(*(part[:, 0] for part in learner.stored))
    weights = AdapterWeights(*(torch.randn_like(m) for m in mean))
    expected = weights
    for _ in range(13):
        expected = AdapterWeights(*(0.9 * w + 0.1 * m for w, m in zip(expected, mean, strict=True)))
    for got, want in zip(pulled(weights, mean, 0.1, 13), expected, strict=True):
        assert torch.allclose(got, want, atol=1e-6)


def test_orthogonality_is_the_cross_entropy_of_each_row_with_itself() -> None:
    features, means = torch.randn(3, 4), torch.randn(2, 4)
    rows = [*means, *features]
    expected = 0.0
    for i, row in enumerate(rows):
        similar = torch.stack([row @ other / 0.8 for other in rows])
        expected += float(similar.logsumexp(0) - similar[i]) / len(rows)
    assert abs(float(orthogonality_loss(features, means)) - expected) < 1e-5
    assert torch.isfinite(orthogonality_loss(features, torch.empty(0, 0)))


def test_only_adapters_and_head_move_and_the_head_at_a_tenth_of_the_rate() -> None:
    learner = strategy("mos", STREAM, orthogonality=0.0, weight_decay=0.0, momentum=0.0, batch_size=64, lr=0.1)
    frozen = copy.deepcopy(learner.adapted.transformer.state_dict())
    optimizer_groups = learner.parameter_groups()
    assert [factor for _, factor in optimizer_groups] == [1.0, 0.1]
    learn(learner, shortened(STREAM.experiences[0], 64))
    for name, value in learner.adapted.transformer.state_dict().items():
        assert torch.equal(value, frozen[name])


def test_without_alignment_and_with_it_old_classes_are_heard_differently() -> None:
    """Local cross-entropy never lowers old outputs, alignment weighs all classes alike: it must move old rows."""
    with_alignment, without = (learnt(2, align=flag) for flag in (True, False))
    assert torch.equal(with_alignment.stored.up_weight, without.stored.up_weight)
    assert not torch.equal(with_alignment.head.weight[:2], without.head.weight[:2])


def single_images(stream: Stream) -> list[Experience]:
    found = []
    for experience in stream.experiences:
        labels = experience.train.column("label")
        rows = torch.stack([(labels == c).nonzero()[0, 0] for c in experience.classes])
        found.append(replace(experience, train=experience.train.select(rows)))
    return found


def test_one_image_per_class_and_one_class_per_experience_can_be_learnt() -> None:
    scenario, config = scenarios.load("digits")
    stream = scenario(config(increment=1)).stream(0)
    learner = strategy("mos", stream)
    for experience in single_images(stream):
        learn(learner, experience)
    assert set(learner.predict({"image": stream.experiences[3].test.column("image")}).tolist()) <= set(range(10))
    assert bool(learner.head.weight.isfinite().all())


def test_no_refinement_asks_the_first_adapters_only() -> None:
    learner = learnt(3, merge=Merge.NONE, refinements=0)
    (task,) = learner.answer(held_out(3)).tasks
    assert set(task.tolist()) == {0}


def test_with_task_identity_the_own_task_answers() -> None:
    stream = digits(Setting.TASK_INCREMENTAL)
    learner = strategy("mos", stream, lr=0.2)
    for experience in stream.experiences[:2]:
        learn(learner, shortened(experience, 64))
    batch = {"image": held_out(2)["image"], "task": torch.full((96,), 1)}
    (task,) = learner.answer(batch).tasks
    assert set(task.tolist()) == {1}


def test_its_settings_are_those_of_the_released_configuration_for_cifar(monkeypatch: pytest.MonkeyPatch) -> None:
    config = strategies.load("mos")[1]()
    assert (config.epochs, config.batch_size, config.lr, config.weight_decay) == (20, 48, 0.03, 5e-4)
    assert (config.optimizer, config.momentum, config.schedule) == (Optimizer.SGD, 0.9, Schedule.COSINE_EPOCHS)
    assert (config.rank, config.scale, config.dropout, config.adapter_momentum) == (16, 0.1, 0.1, 0.1)
    assert (config.orthogonality, config.covariance, config.warm_start) == (0.1, Covariance.FULL, True)
    assert (config.refinements, config.ensemble) == (4, True)
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(mos_module, "align", lambda *_, **values: asked.append(values))
    learnt(3, align_epochs=config.align_epochs)
    assert len(asked) == 2  # not after the first task
    for values in asked:
        assert (values["epochs"], values["lr"], values["samples"], values["weight_decay"]) == (30, 0.005, 240, 5e-4)


def test_new_rows_of_the_head_begin_small_and_fresh_adapters_as_a_linear_layer_does() -> None:
    learner = strategy("mos", STREAM)
    bound = learner.adapted.transformer.width**-0.5  # kaiming_uniform with a = sqrt(5)
    assert 0.8 * bound < float(learner.adapted.down_weight.detach().abs().max()) <= bound
    assert not learner.adapted.up_weight.any()
    learner.model.grow(400)
    learner.begin(replace(STREAM.experiences[0], classes=tuple(range(400))))
    assert abs(float(learner.head.weight.detach().std()) - 0.02) < 0.002
    assert not learner.head.bias.any()


def test_it_says_that_it_needs_a_vision_transformer_and_a_linear_head() -> None:
    mos = type(learnt(0))
    assert "vision transformer" in mos.skip(None, problem(STREAM, model="small_cnn"))
    assert mos.skip(None, problem(STREAM, model="small_vit", width=8)) is None
