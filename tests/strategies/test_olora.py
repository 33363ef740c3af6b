from __future__ import annotations

from typing import Any

import pytest
import torch

from clbench.engine import learn
from clbench.errors import ConfigError
from clbench.finetune import FineTune
from clbench.models.low_rank import adapters, down
from clbench.strategies.olora import OLoRA, OLoRAConfig, overlap
from tests.learning import scenario_for, shortened, strategy

TASKS = 3


def test_the_overlap_is_the_sum_over_all_pairs_of_directions() -> None:
    draws = torch.Generator().manual_seed(0)
    past, new = torch.randn(6, 5, generator=draws), torch.randn(2, 5, generator=draws)
    pairs = [abs(sum(float(past[i, k]) * float(new[j, k]) for k in range(5))) for i in range(6) for j in range(2)]
    assert overlap(past, new).item() == pytest.approx(sum(pairs), rel=1e-6)
    basis = torch.linalg.qr(torch.randn(5, 5, generator=draws))[0]
    assert overlap(basis[:3], basis[3:]).item() == pytest.approx(0, abs=1e-5)


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, tuple[torch.Tensor, torch.Tensor]]]:
    """The factors of each experience's adapters when it ends, module by module."""
    found: list[dict[str, tuple[torch.Tensor, torch.Tensor]]] = []
    end = OLoRA.end

    def watched(self: Any, experience: Any) -> None:
        factors = {
            name: (layer.lora_A["set0"].weight.detach().clone(), layer.lora_B["set0"].weight.detach().clone())
            for name, layer in adapters(self.model).items()
        }
        found.append(factors)
        end(self, experience)

    monkeypatch.setattr(OLoRA, "end", watched)
    return found


def learnt(experiences: int = TASKS, **values: Any) -> Any:
    stream = scenario_for("olora").stream(0)
    learner = strategy("olora", stream, **values)
    for experience in stream.experiences[:experiences]:
        learn(learner, shortened(experience, 48))
    return learner


def test_the_loss_is_the_papers_with_all_past_adapters_at_once(
    kept: list[dict[str, tuple[torch.Tensor, torch.Tensor]]],
) -> None:
    learner = learnt(orthogonality=0.3, decay=0.01)
    stream = scenario_for("olora").stream(0)
    learner.begin(stream.experiences[TASKS])
    learner.model.eval()
    batch = learner.problem.transform.evaluate(next(stream.experiences[TASKS].train.batches(4)))
    with torch.no_grad():
        for parameter in learner.model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05)
    penalty, squares = 0.0, 0.0
    for name, layer in adapters(learner.model).items():
        a, b = (factor["set0"].weight.detach().double() for factor in (layer.lora_A, layer.lora_B))
        squares += float(a.square().sum() + b.square().sum())
        for factors in kept:
            penalty += float((factors[name][0].double() @ a.T).abs().sum())
    assert penalty > 1
    wanted = FineTune.loss(learner, batch).item() + 0.3 * penalty + 0.01 * squares
    assert learner.loss(batch).item() == pytest.approx(wanted, rel=1e-5)


def test_the_first_experience_has_no_past_to_keep_away_from() -> None:
    stream = scenario_for("olora").stream(0)
    learner = strategy("olora", stream)
    learner.begin(stream.experiences[0])
    batch = learner.problem.transform.evaluate(next(stream.experiences[0].train.batches(4)))
    assert learner.loss(batch).item() == FineTune.loss(learner, batch).item()


def test_it_says_what_the_sum_of_all_its_adapters_says(
    kept: list[dict[str, tuple[torch.Tensor, torch.Tensor]]],
) -> None:
    """The published form: W + scale sum_i B_i A_i over all experiences, put together from a fresh model."""
    learner = learnt()
    assert len(kept) == TASKS
    scenario = scenario_for("olora")
    stream = scenario.stream(0)
    fresh: Any = learner.problem.model()
    with torch.no_grad():
        for name, layer in adapters(fresh).items():
            change = sum(factors[name][1].double() @ factors[name][0].double() for factors in kept)
            layer.get_base_layer().weight.add_(layer.scaling["set0"] * torch.as_tensor(change).float())
    batch = learner.problem.transform.evaluate(next(stream.experiences[0].test.batches(8)))
    with torch.no_grad():
        got, wanted = (model.eval().all_logits(batch) for model in (learner.model, fresh))
        start = learner.problem.model().eval().all_logits(batch)
    torch.testing.assert_close(got, wanted, atol=2e-3, rtol=1e-3)
    assert (start - wanted).abs().max() > 0.1  # it has learnt something


def test_the_heavier_the_penalty_the_more_orthogonal_the_adapters(
    kept: list[dict[str, tuple[torch.Tensor, torch.Tensor]]],
) -> None:
    def overlapping() -> float:
        """Mean |cosine| between the directions of the first experience and the last."""
        pairs = [(kept[0][name][0], kept[-1][name][0]) for name in kept[0]]
        unit = torch.nn.functional.normalize
        return float(torch.stack([(unit(a, dim=1) @ unit(b, dim=1).T).abs().mean() for a, b in pairs]).mean())

    found = []
    for weight in (0.0, 0.05, 1.0):
        kept.clear()
        learnt(2, orthogonality=weight, lr=3e-3, epochs=5)
        found.append(overlapping())
    assert found[0] > found[1] > found[2]
    assert found[2] < 0.7 * found[0]


def test_it_keeps_the_directions_of_the_past_and_counts_them() -> None:
    learner = learnt()
    layers = adapters(learner.model)
    assert learner.auxiliary.keys() == layers.keys()
    for name, layer in layers.items():
        rank, inputs = down(layer).shape
        assert learner.auxiliary[name].shape == (TASKS * rank, inputs)
    assert learner.stored_bytes() == sum(4 * tensor.numel() for tensor in learner.auxiliary.values())


@pytest.mark.parametrize("field", ["orthogonality", "decay"])
def test_weights_below_zero_are_refused(field: str) -> None:
    with pytest.raises(ConfigError, match=rf"strategy\.{field} must be >= 0, got -1"):
        OLoRAConfig(**{field: -1.0})  # type: ignore[arg-type]
