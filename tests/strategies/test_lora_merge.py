from __future__ import annotations

from typing import Any

import pytest
import torch

from clbench.engine import learn
from clbench.models.config import AdapterConfig, Routing
from clbench.models.low_rank import adapters, base, down
from clbench.strategies.lora_merge import LoRAMerge, LoRAMergeConfig
from tests.learning import instructions, scenario_for, shortened, strategy, text_problem


def weights(learner: Any) -> dict[str, torch.Tensor]:
    return {name: base(layer).detach().clone() for name, layer in adapters(learner.model).items()}


def test_each_experience_changes_the_weights_by_a_matrix_of_the_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = scenario_for("lora_merge").stream(0)
    learner = strategy("lora_merge", stream)
    told: list[torch.Tensor] = []
    end = LoRAMerge.end
    batch = learner.problem.transform.evaluate(next(stream.experiences[0].test.batches(8)))

    def watched(self: Any, experience: Any) -> None:
        told.append(self.model.eval().all_logits(batch).detach())
        end(self, experience)
        told.append(self.model.all_logits(batch).detach())

    monkeypatch.setattr(LoRAMerge, "end", watched)
    for experience in stream.experiences[:2]:
        before, directions = (
            weights(learner),
            [down(layer).detach().clone() for layer in adapters(learner.model).values()],
        )
        learn(learner, shortened(experience, 48))
        torch.testing.assert_close(told[-1], told[-2], atol=1e-3, rtol=1e-4)
        for (name, old), direction in zip(before.items(), directions, strict=True):
            layer = adapters(learner.model)[name]
            values = torch.linalg.svdvals((base(layer).detach() - old).double())
            assert values[0] > 1e-3, name
            assert values[4] < 1e-5 * max(1.0, float(values[0])), name  # rank 4
            assert not layer.lora_B["set0"].weight.any()
            assert not torch.allclose(down(layer), direction)


def test_what_was_folded_is_in_its_state() -> None:
    stream = scenario_for("lora_merge").stream(0)
    whole, other = strategy("lora_merge", stream), strategy("lora_merge", stream, seed=1)
    learn(whole, shortened(stream.experiences[0], 48))
    other.restore(whole.state())
    batch = whole.problem.transform.evaluate(next(stream.experiences[0].test.batches(8)))
    assert torch.equal(other.model.eval().all_logits(batch), whole.model.eval().all_logits(batch))


@pytest.mark.parametrize(
    ("adapter", "reason"),
    [
        (AdapterConfig(), "it needs low-rank adapters; add model.adapter.rank=8"),
        (
            AdapterConfig(rank=4, routing=Routing.NEAREST),
            "it has one set of adapters at a time; leave model.adapter.routing out",
        ),
        (
            AdapterConfig(rank=4, targets=["embed_tokens", "q_proj"]),
            "it works on matrices only; leave embeddings out of model.adapter.targets",
        ),
        (AdapterConfig(rank=4), None),
    ],
)
def test_what_it_cannot_fold_it_says(adapter: AdapterConfig, reason: str | None) -> None:
    scenario = instructions(adapter)
    assert LoRAMerge.skip(LoRAMergeConfig(), text_problem(scenario, scenario.stream(0))) == reason
