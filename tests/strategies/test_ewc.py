from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from clbench.engine import learn
from clbench.models.config import AdapterConfig, ModelConfig, Routing
from clbench.models.language import build_causal
from clbench.strategies import ewc
from clbench.texts.tokens import columns
from tests.language import BOS, EOS, PAD, folder
from tests.learning import digits, instructions, problem, shortened, strategy, text_problem


def test_the_fisher_is_the_mean_squared_gradient_of_single_examples() -> None:
    stream = digits()
    model = problem(stream).model()
    model.grow(4)
    model.eval()
    table = shortened(stream.experiences[0], 24).train
    batches = [stream.transform.evaluate(batch) for batch in table.batches(7)]
    got = ewc.empirical_fisher(model, batches)
    wanted = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for batch in table.batches(1):
        model.zero_grad()
        model.loss(stream.transform.evaluate(batch)).backward()
        for name, p in model.named_parameters():
            assert p.grad is not None
            wanted[name] += p.grad.square() / 24
    for name, value in wanted.items():
        assert torch.allclose(got[name], value, rtol=1e-3, atol=1e-7), name


@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen2"])
@pytest.mark.parametrize("rank", [0, 2])
@pytest.mark.parametrize("twice", [False, True])
def test_the_fisher_of_a_language_model_is_that_of_single_rows(
    kind: str, rank: int, twice: bool, tmp_path: Path
) -> None:
    rows = columns([[BOS, 5, 6], [BOS, 7], [BOS, 9, 9, 9]], [[8, EOS], [9, 9, EOS], [EOS]], PAD)
    batch = {name: column.long() for name, column in rows.items()}
    name = str(folder(tmp_path / "model", kind))
    model = build_causal(ModelConfig(name, adapter=AdapterConfig(rank=rank), gradient_checkpointing=twice), 4).eval()
    draws = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=draws))  # so that no half of an adapter is 0
    got = ewc.empirical_fisher(model, [batch])
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert got.keys() == trained.keys()
    wanted = {name: torch.zeros_like(p) for name, p in trained.items()}
    for i in range(3):
        model.zero_grad()
        model.loss({name: column[i : i + 1] for name, column in batch.items()}).backward()
        for name, p in trained.items():
            wanted[name] += (torch.zeros_like(p) if p.grad is None else p.grad).square() / 3
    for name, value in wanted.items():
        assert torch.allclose(got[name], value, rtol=1e-3, atol=1e-5 * float(value.max())), name


def test_adapters_that_are_new_have_no_springs_and_the_base_never_has() -> None:
    scenario = instructions(AdapterConfig(rank=2, routing=Routing.NEAREST))
    stream = scenario.stream(0)
    learner = ewc.EWC(ewc.EWCConfig(epochs=1, lr=0.01, fisher_examples=8), text_problem(scenario, stream))
    for experience in stream.experiences[:2]:
        learn(learner, shortened(experience, 32))
    held = {name.partition("/")[2] for name in learner.auxiliary}
    assert {part for name in held for part in name.split(".") if part.startswith("set")} == {"set0", "set1"}
    assert all("lora_" in name for name in held)
    learner.model.meet(stream.experiences[2].train)  # a third set
    learner.begin(stream.experiences[2])
    batch = stream.transform.evaluate(next(stream.experiences[2].train.batches(8)))
    learner.model.eval()
    assert learner.loss(batch).item() == learner.model.loss(batch).item()


def test_merged_springs_are_the_sum_of_all_springs_up_to_a_constant() -> None:
    draws = torch.Generator().manual_seed(0)
    importances = [torch.rand(6, generator=draws).double() for _ in range(3)]
    importances[1][2] = importances[0][2] = importances[2][2] = 0
    anchors = [torch.randn(6, generator=draws).double() for _ in range(3)]
    importance, anchor = importances[0], anchors[0]
    for new_importance, new_anchor in zip(importances[1:], anchors[1:], strict=True):
        importance, anchor = ewc.merge_quadratics(importance, anchor, new_importance, new_anchor)
    gaps = []
    for _ in range(5):
        theta = torch.randn(6, generator=draws).double()
        separate = sum(float((f * (theta - a) ** 2).sum()) for f, a in zip(importances, anchors, strict=True))
        gaps.append(separate - float((importance * (theta - anchor) ** 2).sum()))
    assert max(gaps) - min(gaps) < 1e-12


def test_the_penalty_pulls_with_strength_times_fisher_times_distance() -> None:
    stream = digits()
    learner = strategy("ewc", stream, strength=7.0)
    learn(learner, shortened(stream.experiences[0], 64))
    learner.begin(stream.experiences[1])
    name, parameter = next(iter(learner.model.named_parameters()))
    with torch.no_grad():
        parameter += 0.1
    batch = stream.transform.evaluate(next(stream.experiences[0].test.batches(16)))
    learner.model.eval()
    gradients = [torch.autograd.grad(loss(batch), parameter)[0] for loss in (learner.loss, learner.model.loss)]
    pull = 7.0 * learner.auxiliary[f"importance/{name}"] * 0.1
    assert torch.allclose(gradients[0] - gradients[1], pull, atol=1e-6)


def test_without_strength_it_is_naive_and_with_more_it_moves_less() -> None:
    stream = digits()

    def moved(name: str, **values: Any) -> tuple[float, torch.Tensor]:
        learner = strategy(name, stream, lr=0.01, epochs=3, **values)
        learn(learner, stream.experiences[0])
        before = torch.cat([p.detach().flatten() for p in learner.model.backbone.parameters()])
        learn(learner, stream.experiences[1])
        after = torch.cat([p.detach().flatten() for p in learner.model.backbone.parameters()])
        return float((after - before).norm()), after

    naive, free = moved("naive"), moved("ewc", strength=0.0)
    assert torch.allclose(naive[1], free[1], atol=1e-5)
    distances = [free[0], moved("ewc", strength=100.0)[0], moved("ewc", strength=1000.0)[0]]
    assert distances == sorted(distances, reverse=True)
    assert distances[2] < 0.75 * distances[0]


@pytest.mark.parametrize("online", [False, True])
def test_what_is_stored_does_not_grow_with_the_experiences(online: bool) -> None:
    stream = digits()
    learner = strategy("ewc", stream, online=online)
    stored = []
    for experience in stream.experiences[:3]:
        learn(learner, shortened(experience, 32))
        stored.append(learner.stored_bytes() / learner.parameters()[0])
    assert stored == [8.0, 8.0, 8.0]


def test_rows_that_the_head_grew_are_free() -> None:
    padded = ewc.padded(torch.ones(2, 3), nn.Parameter(torch.zeros(5, 3)))
    assert padded.tolist() == [[1.0] * 3] * 2 + [[0.0] * 3] * 3
