from __future__ import annotations

from typing import Any

import torch

from clbench.engine import learn
from clbench.strategies import lwf
from tests.learning import digits, scenario_for, shortened, strategy


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


def test_texts_are_distilled_token_by_token_over_the_whole_vocabulary() -> None:
    stream = scenario_for("lwf").stream(0)
    learner: Any = strategy("lwf", stream, strength=0.7, temperature=2.0)
    learn(learner, shortened(stream.experiences[0], 32))
    learner.begin(stream.experiences[1])
    batch = stream.transform.evaluate(next(stream.experiences[1].train.batches(4)))
    with torch.no_grad():
        for parameter in learner.model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
        learner.model.eval()
        got = learner.loss(batch).item()
        new, old = (model.all_logits(batch).double() for model in (learner.model, learner.teacher))
    p, q = torch.softmax(old / 2, 1), torch.softmax(new / 2, 1)
    kept = 4 * float((p * (p / q).log()).sum(1).mean())
    assert kept > 1e-3
    assert len(new) == int((batch["length"] - batch["prompt"]).sum())
    assert abs(got - learner.model.loss(batch).item() - 0.7 * kept) < 1e-4


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
