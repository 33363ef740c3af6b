import math

import pytest
import torch

from clbench.models.classifier import Classifier, build_classifier
from clbench.models.config import HeadKind, ModelConfig
from clbench.table import Batch

TASKS = (0, 0, 1, 1, 1, 2)


def batch_of(count: int) -> Batch:
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(len(TASKS), (count,), generator=generator)
    return {
        "image": torch.randn(count, 1, 8, 8, generator=generator),
        "label": label,
        "task": torch.tensor(TASKS)[label],
    }


def classifier_of(outputs: int, tasks: tuple[int, ...] | None = None, head: HeadKind = HeadKind.LINEAR) -> Classifier:
    torch.manual_seed(0)
    classifier = build_classifier(ModelConfig(head=head), (1, 8, 8), "small_cnn", tasks)
    assert classifier.outputs == 0
    classifier.grow(outputs)
    return classifier.eval()


@pytest.mark.parametrize("head", list(HeadKind))
def test_it_answers_with_the_classes_it_has(head: HeadKind) -> None:
    classifier, batch = classifier_of(4, head=head), batch_of(7)
    logits = classifier.logits(batch)
    assert (logits.shape, logits.dtype) == ((7, 4), torch.float32)
    assert classifier.features(batch).shape == (7, 64)
    answers = classifier.predict(batch)
    assert answers.dtype == torch.int64
    assert answers.tolist() == [row.index(max(row)) for row in logits.tolist()]
    classifier.grow(6)
    torch.testing.assert_close(classifier.logits(batch)[:, :4], logits)


def test_the_loss_is_the_mean_cross_entropy() -> None:
    classifier, batch = classifier_of(6), batch_of(7)
    rows, labels = classifier.logits(batch).double().tolist(), batch["label"].tolist()
    expected = sum(math.log(sum(map(math.exp, row))) - row[label] for row, label in zip(rows, labels, strict=True))
    assert classifier.loss(batch).item() == pytest.approx(expected / 7, rel=1e-5)


@pytest.mark.parametrize("outputs", [6, 5])
def test_classes_of_other_tasks_are_ruled_out(outputs: int) -> None:
    classifier, batch = classifier_of(outputs, TASKS), batch_of(9)
    free: list[list[float]] = classifier.head(classifier.features(batch)).tolist()
    masked: list[list[float]] = classifier.logits(batch).tolist()
    for example, task in enumerate(batch["task"].tolist()):
        for label in range(outputs):
            expected = free[example][label] if TASKS[label] == task else -math.inf
            assert masked[example][label] == expected


def test_task_incremental_training_has_finite_gradients_and_answers_within_the_task() -> None:
    classifier, batch = classifier_of(6, TASKS), batch_of(9)
    classifier.loss(batch).backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in classifier.parameters())
    assert [TASKS[answer] for answer in classifier.predict(batch).tolist()] == batch["task"].tolist()


def test_more_outputs_than_classes_with_a_task_are_refused() -> None:
    with pytest.raises(ValueError, match="7 outputs, but only 6 classes have a task"):
        classifier_of(7, TASKS)


def test_the_state_holds_weights_only() -> None:
    assert "task_of_class" not in classifier_of(6, TASKS).state_dict()


def test_forward_is_the_loss() -> None:
    classifier, batch = classifier_of(6, TASKS), batch_of(3)
    assert torch.equal(classifier(batch), classifier.loss(batch))


def test_old_classes_share_a_softmax_unless_each_example_tells_its_experience() -> None:
    assert classifier_of(0).old_groups(5) == [slice(0, 5)]
    assert classifier_of(0, (0, 0, 1, 1, 1, 2)).old_groups(5) == [slice(0, 2), slice(2, 5)]
