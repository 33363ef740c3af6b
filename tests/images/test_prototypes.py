from __future__ import annotations

import torch
import torch.nn.functional as F

from clbench.images.prototypes import best, class_means, cosines

INFINITE = float("inf")


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_means_and_cosines_against_float64_loops() -> None:
    features, labels = drawn(20, 3), torch.tensor([4, 2, 7, 2] * 5)
    means = class_means(features, labels, (2, 4, 7))
    scores = cosines(features, means)
    for row, label in enumerate((2, 4, 7)):
        members = [x.double() for x, y in zip(features, labels, strict=True) if y == label]
        mean = torch.stack(members).mean(0)
        assert torch.allclose(means[row].double(), mean, atol=1e-6)
        for example, score in zip(features.double(), scores[:, row], strict=True):
            assert abs(float(example @ mean / example.norm() / mean.norm()) - float(score)) < 1e-5


def test_the_bits_of_a_mean_depend_on_its_own_examples_only() -> None:
    features, labels = drawn(30, 5), torch.arange(3).repeat(10)
    together = class_means(features, labels, (0, 1, 2))
    for label in range(3):
        members = labels == label
        assert torch.equal(class_means(features[members], labels[members], (label,))[0], together[label])


def test_a_class_without_an_example_is_never_the_answer() -> None:
    features, labels = drawn(8, 3), torch.tensor([0, 2] * 4)
    means = class_means(features, labels, (0, 1, 2))
    assert 1 not in best(cosines(F.pad(drawn(50, 2), (0, 1)), means), {}, None).tolist()


def test_only_classes_of_the_examples_own_task_compete_and_the_first_answers_for_want_of_scores() -> None:
    tasks = torch.tensor([0, 0, 1, 1, 2, 2])
    scores = torch.tensor(
        [[9.0, 8.0, -7.0, -6.0]] * 3 + [[9.0, 8.0, -INFINITE, -7.0], [0.0, 0.0, -INFINITE, -INFINITE]]
    )
    batch = {"task": torch.tensor([0, 1, 2, 1, 1])}
    assert best(scores, batch, tasks).tolist() == [0, 3, 4, 3, 2]
    assert best(scores, {}, None).tolist() == [0] * 5
    assert best(torch.empty(3, 0), {"task": torch.tensor([2, 0, 1])}, tasks).tolist() == [4, 0, 2]
