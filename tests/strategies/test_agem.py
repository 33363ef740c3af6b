from __future__ import annotations

import pytest
import torch
from torch import Tensor

from clbench.engine import learn
from clbench.memory import MemoryConfig
from clbench.strategies.agem import AGEM, project
from tests.learning import digits, shortened, strategy


@pytest.mark.parametrize("seed", range(4))
def test_the_projection_is_equation_11_in_float64(seed: int) -> None:
    draws = torch.Generator().manual_seed(seed)
    gradient, reference = (torch.randn(50, generator=draws, dtype=torch.float64) for _ in range(2))
    for r in (reference, -reference):
        found = project(gradient, r)
        if gradient @ r >= 0:
            assert torch.equal(found, gradient)
            continue
        assert abs(found @ r) < 1e-12  # on the boundary, ...
        change = found - gradient
        assert change @ r == pytest.approx(float(change.norm() * r.norm()))  # ... and the shortest way to it


def test_a_reference_of_zero_or_without_numbers_changes_nothing() -> None:
    gradient = torch.tensor([1.0, -2.0])
    for reference in (torch.zeros(2), torch.tensor([torch.nan, 0.0])):
        assert torch.equal(project(gradient, reference), gradient)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, Tensor, list[int]]]:
    """Of each projected step: the reference, the gradient that is stepped along, and the tasks of the exemplars."""
    recorded: list[tuple[Tensor, Tensor, list[int]]] = []
    drawn: list[list[int]] = []
    change, ask = AGEM.projected, AGEM.gradient_of
    references: list[Tensor] = []

    def asked(self: AGEM, table: object) -> Tensor:
        drawn.append(table.column("task").tolist())  # type: ignore[attr-defined]
        references.append(ask(self, table))  # type: ignore[arg-type]
        return references[-1]

    def watched(self: AGEM, gradient: Tensor) -> Tensor:
        found = change(self, gradient)
        recorded.append((references[-1], found, drawn[-1]))
        return found

    monkeypatch.setattr(AGEM, "projected", watched)
    monkeypatch.setattr(AGEM, "gradient_of", asked)
    return recorded


@pytest.mark.parametrize("ratio", [1.0, 0.5])
def test_no_step_goes_against_a_batch_drawn_anew_from_all_past_experiences(
    seen: list[tuple[Tensor, Tensor, list[int]]], ratio: float
) -> None:
    stream = digits()
    memory = MemoryConfig(capacity=60, batch_size=20)
    learner = strategy("agem", stream, ratio=ratio, memory=memory, lr=0.02, epochs=2)
    for experience in stream.experiences[:3]:
        seen.clear()
        learn(learner, shortened(experience, 160))
        assert len(seen) == (10 if experience.index else 0)
    for reference, gradient, tasks in seen:
        assert len(tasks) == 20
        assert set(tasks) == {0, 1}
        assert gradient @ reference > -1e-4 * gradient.norm() * reference.norm()
        assert len(gradient) == learner.parameters()[1]
    assert len({tuple(tasks) for _, _, tasks in seen}) > 1
    assert any(abs(g @ r) < 1e-4 * g.norm() * r.norm() for r, g, _ in seen)  # some were projected
