from __future__ import annotations

from typing import Any

import torch

from clbench.engine import learn
from clbench.strategies import lwf
from tests.learning import digits, shortened, strategy


def test_distillation_against_float64_sums() -> None:
    draws = torch.Generator().manual_seed(0)
    logits, teacher = (torch.randn(5, 4, generator=draws, dtype=torch.float64) for _ in range(2))
    p, q = (torch.softmax(teacher / 2, 1), torch.softmax(logits / 2, 1))
    wanted = 4 * sum(float(p[i, j] * (p[i, j] / q[i, j]).log()) for i in range(5) for j in range(4)) / 5
    assert abs(float(lwf.distillation(logits, teacher, 2.0)) - wanted) < 1e-12
    assert abs(float(lwf.distillation(teacher, teacher, 2.0))) < 1e-12


def test_its_gradient_is_that_of_the_papers_cross_entropy() -> None:
    draws = torch.Generator().manual_seed(1)
    logits = torch.randn(5, 4, generator=draws, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(5, 4, generator=draws, dtype=torch.float64)
    target = torch.softmax(teacher / 2, 1)
    paper = -4 * (target * torch.log_softmax(logits / 2, 1)).sum(1).mean()
    ours = lwf.distillation(logits, teacher, 2.0)
    assert torch.allclose(torch.autograd.grad(paper, logits)[0], torch.autograd.grad(ours, logits)[0])


def test_the_teacher_is_the_model_before_the_experience_and_is_let_go() -> None:
    stream = digits()
    learner: Any = strategy("lwf", stream)
    learn(learner, shortened(stream.experiences[0], 64))
    assert learner.teacher is None
    batch = stream.transform.evaluate(next(stream.experiences[0].test.batches(16)))
    learner.model.eval()
    before = learner.model.all_logits(batch).detach()
    learner.model.grow(4)
    learner.begin(stream.experiences[1])
    assert learner.teacher is not None
    # A wider head's matrix product may round the last bit otherwise.
    assert torch.allclose(learner.teacher.all_logits(batch)[:, :2], before, atol=1e-6)
    learner.end(stream.experiences[1])
    assert learner.teacher is None


def test_it_keeps_more_of_the_old_answers_than_naive() -> None:
    stream = digits()
    right = {}
    cases: dict[str, dict[str, Any]] = {"naive": {}, "lwf": {"strength": 5.0}}
    for name, values in cases.items():
        learner = strategy(name, stream, epochs=4, **values)
        for experience in stream.experiences[:2]:
            learn(learner, experience)
        batch = next(stream.experiences[0].test.batches(256))
        right[name] = int((learner.predict(batch) == batch["label"]).sum())
    assert right["lwf"] > right["naive"] + 10
