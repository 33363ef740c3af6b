from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from clbench.engine import learn
from clbench.errors import ConfigError
from clbench.models.config import AdapterConfig, Routing
from clbench.models.low_rank import ranks
from clbench.strategies.adalora import AdaLoRA, AdaLoRAConfig, departure
from tests.learning import instructions, scenario_for, shortened, strategy, text_problem

RANK = 4  # of `scenario_for`


def parameters(learner: Any, trained: bool) -> dict[str, Tensor]:
    return {n: p.detach().clone() for n, p in learner.model.named_parameters() if p.requires_grad is trained}


def test_the_departure_from_orthonormal_rows_is_a_frobenius_norm() -> None:
    rows = np.random.default_rng(0).standard_normal((3, 7))
    wanted = np.linalg.norm(rows @ rows.T - np.eye(3))
    assert departure(torch.from_numpy(rows)).item() == pytest.approx(wanted)
    basis = torch.linalg.qr(torch.from_numpy(rows.T))[0].T
    assert departure(basis).item() == pytest.approx(0, abs=1e-12)


def test_the_penalty_is_the_one_that_peft_adds() -> None:
    stream = scenario_for("adalora").stream(0)
    learner, plain = (strategy("adalora", stream, orthogonality=weight) for weight in (0.5, 0.0))
    batch = stream.transform.evaluate(next(stream.experiences[0].train.batches(4)))
    tuned = learner.model.network
    tuned.peft_config["set0"].orth_reg_weight = 0.5
    asked = {"input_ids": batch["tokens"], "labels": batch["tokens"]}
    added = tuned(**asked).loss - tuned.base_model.model(**asked).loss
    assert (learner.loss(batch) - plain.loss(batch)).item() == pytest.approx(added.item(), rel=1e-4)
    assert added.item() > 0.1


def test_ranks_fall_to_the_wanted_mean_in_each_experience_and_nothing_else_is_trained() -> None:
    stream = scenario_for("adalora").stream(0)
    learner = strategy("adalora", stream, epochs=5, lr=1e-2)
    frozen, counts = parameters(learner, trained=False), []
    step = learner.after_step

    def watched() -> None:
        step()
        counts.append(sum(ranks(learner.model).values()))

    learner.after_step = watched
    matrices = len(ranks(learner.model))
    for experience in stream.experiences[:2]:
        before, counts[:] = parameters(learner, trained=True), []
        learn(learner, shortened(experience, 64))
        most, least = matrices * RANK * 3 // 2, matrices * RANK
        assert counts[0] == most  # all directions take part again
        assert counts == sorted(counts, reverse=True)
        assert counts[-3:] == [least] * 3
        assert len({*ranks(learner.model).values()}) > 1  # important matrices have more
        now = dict(learner.model.named_parameters())
        assert all(not torch.equal(now[name], tensor) for name, tensor in before.items())
    assert all(torch.equal(now[name], tensor) for name, tensor in frozen.items())
    assert learner.notes()["ranks"] == ranks(learner.model)


def test_an_experience_of_one_step_keeps_all_directions() -> None:
    stream = scenario_for("adalora").stream(0)
    learner = strategy("adalora", stream, batch_size=64)
    learn(learner, shortened(stream.experiences[0], 64))
    assert set(ranks(learner.model).values()) == {RANK * 3 // 2}


def test_before_training_the_model_answers_as_without_adapters() -> None:
    stream = scenario_for("adalora").stream(0)
    learner, plain = strategy("adalora", stream), strategy("naive", instructions().stream(0))
    batch = next(stream.experiences[0].test.batches(8))
    torch.testing.assert_close(learner.log_likelihoods(batch)[0], plain.log_likelihoods(batch)[0])


@pytest.mark.parametrize(
    ("adapter", "reason"),
    [
        (AdapterConfig(), "it needs low-rank adapters; add model.adapter.rank=8"),
        (
            AdapterConfig(2, routing=Routing.NEAREST),
            "it has one set of adapters at a time; leave model.adapter.routing out",
        ),
        (
            AdapterConfig(2, targets=["embed_tokens", "q_proj"]),
            "it works on matrices only; leave embeddings out of model.adapter.targets",
        ),
    ],
)
def test_adapters_that_it_cannot_train_are_told(adapter: AdapterConfig, reason: str) -> None:
    scenario = instructions(adapter)
    assert AdaLoRA.skip(AdaLoRAConfig(), text_problem(scenario, scenario.stream(0))) == reason


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"initial": 1.0}, "strategy.initial must be > 1, got 1.0"),
        ({"final_ranks": 0.9}, "strategy.warmup_ranks + strategy.final_ranks must be < 1, got 1.0"),
        ({"orthogonality": -1.0}, "strategy.orthogonality must be >= 0, got -1.0"),
    ],
)
def test_bad_fields_are_told(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        AdaLoRAConfig(**fields)
    assert str(error.value) == message
