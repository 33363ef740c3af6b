from __future__ import annotations

from itertools import chain, combinations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from clbench.engine import learn
from clbench.errors import ConfigError
from clbench.gradients import flat
from clbench.memory import MemoryConfig
from clbench.strategies.gem import GEM, GEMConfig, project, weights
from tests.learning import digits, shortened, strategy

Array = npt.NDArray[np.float64]
CASES = [
    (k, p, margin, seed) for k, p in ((1, 4), (3, 20), (6, 4), (8, 100)) for margin in (0.0, 0.5) for seed in (0, 1)
]


def brute_force(gram: Array, products: Array, margin: float, eps: float) -> Array:
    """The best of all vectors that solve the program with some weights at their bound and the others free."""
    size = len(gram)
    matrix = gram + eps * np.eye(size)
    best, lowest = np.full(size, margin), np.inf
    for free in map(list, chain.from_iterable(combinations(range(size), n) for n in range(size + 1))):
        v = np.full(size, margin)
        bound = [i for i in range(size) if i not in free]
        v[free] = np.linalg.solve(matrix[np.ix_(free, free)], -products[free] - matrix[np.ix_(free, bound)] @ v[bound])
        value = v @ matrix @ v / 2 + products @ v
        if (v >= margin - 1e-12).all() and value < lowest:
            best, lowest = v, value
    return best


def draws(count: int, length: int, seed: int) -> tuple[Array, Array]:
    """A gradient and past ones that it mostly opposes; more of them than dimensions in one case."""
    random = np.random.default_rng(seed)
    past = random.normal(size=(count, length))
    return random.normal(size=length) - 0.5 * past.mean(0) - 0.3 * past[0], past


@pytest.mark.parametrize(("count", "length", "margin", "seed"), CASES)
def test_the_weights_are_the_optimum_of_the_dual_program(count: int, length: int, margin: float, seed: int) -> None:
    gradient, past = draws(count, length, seed)
    gram, products, eps = past @ past.T, past @ gradient, 1e-3
    found = weights(gram, products, margin, eps)
    assert np.allclose(found, brute_force(gram, products, margin, eps), atol=1e-8)
    slope = gram @ found + eps * found + products
    assert (found >= margin - 1e-12).all()  # the Karush-Kuhn-Tucker conditions, which are sufficient here
    assert (slope >= -1e-8).all()
    assert np.allclose(slope * (found - margin), 0, atol=1e-8)


@pytest.mark.parametrize(("count", "length", "seed"), [(3, 20, 0), (8, 100, 1), (6, 4, 2)])
def test_without_margin_the_projection_is_the_nearest_vector_that_hurts_no_past(
    count: int, length: int, seed: int
) -> None:
    gradient, past = (torch.from_numpy(a) for a in draws(count, length, seed))
    found = project(gradient, past, 0.0, 1e-9)
    assert (past @ gradient).min() < 0
    assert (past @ found).min() > -1e-6
    distance = (found - gradient).norm()
    others = torch.randn(20_000, length, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    nearby = found + 0.2 * distance * others / others.norm(dim=1, keepdim=True)
    allowed = nearby[((nearby @ past.T) >= 0).all(1)]
    assert len(allowed) > 10
    assert ((allowed - gradient).norm(dim=1) > distance - 1e-6).all()


def test_a_gradient_that_breaks_no_constraint_or_is_not_finite_stays() -> None:
    past = torch.eye(3)
    for gradient in (torch.ones(3), torch.zeros(3), torch.tensor([-1.0, torch.nan, 1.0]), torch.full((3,), -torch.inf)):
        assert project(gradient, past, 0.5, 1e-3) is gradient
    broken = torch.tensor([[torch.inf, 0.0, 0.0], [0.0, 1.0, 0.0]])
    gradient = -torch.ones(3)
    assert project(gradient, broken, 0.5, 1e-3) is gradient


def test_a_larger_margin_turns_the_gradient_further_towards_the_past() -> None:
    gradient, past = (torch.from_numpy(a).float() for a in draws(3, 20, 0))
    products = [(past @ project(gradient, past, margin, 1e-3)).sum() for margin in (0.0, 0.5, 1.0)]
    assert products == sorted(products)
    assert products[0] < products[1] < products[2]


def test_parallel_and_very_long_past_gradients_are_no_problem_for_rounding() -> None:
    gradient = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    past = 1e4 * torch.stack([-gradient, -gradient * 1.0001, -gradient])
    found = project(gradient, past, 0.0, 1e-3)
    assert found.isfinite().all()
    assert found.norm() < 1e-2 * gradient.norm()


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Of each projected step: gradient before, gradient after, and past gradients by `backward` in float64 sums."""
    recorded: list[tuple[Tensor, Tensor, Tensor]] = []
    change = GEM.after_backward

    def gradients(learner: GEM) -> Tensor:
        return flat(p.grad.double() for p in learner.model.parameters() if p.grad is not None)

    def watched(self: GEM) -> None:
        before = gradients(self)
        change(self)
        if not len(self.kept):
            return
        after, tasks, past = gradients(self), self.kept.column("task"), []
        saved = {p: p.grad for p in self.model.parameters()}
        for task in range(int(tasks.max()) + 1):
            chosen = self.kept.select(tasks == task)
            self.model.zero_grad()
            self.loss(self.problem.transform.evaluate(chosen.source.take(chosen.rows))).backward()
            past.append(gradients(self))
        for parameter, gradient in saved.items():
            parameter.grad = gradient
        recorded.append((before, after, torch.stack(past)))

    monkeypatch.setattr(GEM, "after_backward", watched)
    return recorded


@pytest.mark.parametrize("model", ["small_cnn", "small_vit"])
@pytest.mark.parametrize("ratio", [1.0, 0.5])
def test_each_step_follows_the_program_on_gradients_of_what_trains(
    steps: list[tuple[Tensor, Tensor, Tensor]], ratio: float, model: str
) -> None:
    stream = digits()
    memory = MemoryConfig(capacity=60, batch_size=60)  # one pass for each past experience: a batch norm sees it whole
    learner = strategy("gem", stream, model=model, ratio=ratio, memory=memory, lr=0.02)
    projected = 0
    for experience in stream.experiences[:3]:
        steps.clear()
        learn(learner, shortened(experience, 160))
        trained = sum(p.numel() for p in learner.model.parameters() if p.requires_grad)
        assert len(steps) == (5 if experience.index else 0)
        for before, after, past in steps:
            assert past.shape == (experience.index, trained)
            wanted = before
            if (past @ before).min() < 0:
                gram, products = (past @ past.T).numpy(), (past @ before).numpy()
                wanted = before + torch.from_numpy(brute_force(gram, products, 0.5, 1e-3)) @ past
                projected += 1
            assert torch.allclose(after, wanted, rtol=1e-3, atol=1e-4)
    assert projected > 2
    frozen = [p for p in learner.model.parameters() if not p.requires_grad]
    assert bool(frozen) == (ratio < 1)
    assert all(p.grad is None for p in frozen)


def test_it_forgets_less_than_naive_does() -> None:
    stream = digits()

    def loss_on_the_first(name: str) -> float:
        learner = strategy(name, stream, model="small_cnn", lr=0.02, epochs=3)
        for experience in stream.experiences[:3]:
            learn(learner, experience)
        test = stream.experiences[0].test
        learner.model.eval()
        with torch.no_grad():
            return float(learner.model.loss(stream.transform.evaluate(test.source.take(test.rows))))

    assert loss_on_the_first("gem") < 0.7 * loss_on_the_first("naive")


@pytest.mark.parametrize(
    ("values", "message"),
    [({"margin": -0.1}, r"strategy\.margin must be >= 0"), ({"eps": 0.0}, r"strategy\.eps must be > 0")],
)
def test_values_out_of_range_are_one_sentence(values: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GEMConfig(**values)  # type: ignore[arg-type]
