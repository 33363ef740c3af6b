from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from clbench import inherited
from clbench.engine import learn
from clbench.errors import ConfigError
from clbench.kernels.ema_merge import ema_merge_
from clbench.strategies import coin
from clbench.strategies.coin import CoIN, CoINConfig, Granularity, Mode
from tests.learning import digits, shortened, strategy

Numbers = dict[str, Tensor]
MODES = [Mode.CODE, Mode.PAPER, Mode.PAPER_NEW]


def numbers(learner: Any) -> Numbers:
    state = learner.model.state_dict()
    return {name: t.double() for name, t in state.items() if t.is_floating_point()}


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Numbers, Numbers]]:
    """The model's numbers and gradients after each step, for whoever learns while it is in use."""
    recorded: list[tuple[Numbers, Numbers]] = []
    follow = CoIN.after_step

    def watched(self: CoIN) -> None:
        gradients = {name: p.grad.double() for name, p in self.model.named_parameters() if p.grad is not None}
        recorded.append((numbers(self), gradients))
        follow(self)

    monkeypatch.setattr(CoIN, "after_step", watched)
    return recorded


def l1(a: Tensor, b: Tensor | float = 0.0) -> float:
    return float((a - b).abs().sum())


def brute_force(
    config: CoINConfig, before: Numbers, steps: list[tuple[Numbers, Numbers]]
) -> tuple[Numbers, list[dict[str, float]]]:
    """The shadow after all steps, and what each asked for: the module's docstring in float64, tensor by tensor."""
    shadow, last, last_gradients = dict(before), before, steps[0][1]
    history = []
    for whole, whole_gradients in steps:
        live = {name: t[: len(before[name])] if t.dim() else t for name, t in whole.items()}
        gradients = {name: g[: len(before[name])] for name, g in whole_gradients.items()}
        keys = {
            name: {"tensor": name, "layer": name.rpartition(".")[0], "global": ""}[config.granularity.value]
            for name in gradients
        }
        asked = {}
        for name in gradients:
            members = [other for other in gradients if keys[other] == keys[name]]
            gap = sum(l1(live[m], shadow[m]) for m in members)
            change = sum(l1(gradients[m], last_gradients[m][: len(before[m])]) for m in members)
            ratio = (1 + sum(l1(gradients[m]) for m in members)) / (gap * change) if gap * change else math.inf
            moved = sum(l1(live[m], last[m]) for m in members)
            if config.mode is Mode.CODE:
                asked[name] = config.constant * ratio
            else:
                asked[name] = moved * ratio * (1 if config.mode is Mode.PAPER else config.constant)
        weights = {name: value if 0 < value < 1 else config.fallback for name, value in asked.items()}
        if config.mode is Mode.PAPER:
            weights = {name: 1 - weights[name] if 0 < value < 1 else config.fallback for name, value in asked.items()}
        mean = sum(weights.values()) / len(weights)
        for name, old in shadow.items():
            weight = weights.get(name, mean)
            shadow[name] = (1 - weight) * old + weight * live[name]
        last, last_gradients = live, gradients
        history.append(asked)
    return shadow, history


@pytest.mark.parametrize("granularity", Granularity)
@pytest.mark.parametrize("mode", MODES)
def test_it_ends_with_the_closed_form_over_its_steps(
    steps: list[tuple[Numbers, Numbers]], mode: Mode, granularity: Granularity
) -> None:
    stream = digits()
    constant = 0.02 if mode is Mode.CODE else 0.5
    learner = strategy("coin", stream, mode=mode, constant=constant, granularity=granularity, epochs=3)
    learn(learner, shortened(stream.experiences[0], 64))
    before = numbers(learner)
    assert learner.notes() == {}  # a model that begins at random is not averaged yet
    steps.clear()
    learn(learner, shortened(stream.experiences[1], 128))
    assert len(steps) == 12
    shadow, history = brute_force(learner.config, before, steps)
    trained = steps[-1][0]
    for name, got in numbers(learner).items():
        rows = len(before[name]) if got.dim() else None
        assert torch.allclose(got[:rows], shadow[name], rtol=1e-4, atol=1e-5), name
        assert torch.equal(got[rows:], trained[name][rows:])  # new rows have no shadow
    notes = json.loads(json.dumps(learner.notes(), allow_nan=False))
    outside = {name: sum(not 0 < asked[name] < 1 for asked in history) for name in history[0]}
    assert {name: row["fallbacks"] for name, row in notes["parameters"].items()} == outside
    assert notes["fallbacks"] == sum(outside.values())
    assert notes["updates"] == 12 * len(outside)
    assert 0 < notes["fallbacks"] < notes["updates"]  # both branches were in play
    for name, row in notes["parameters"].items():
        ranked = sorted(asked[name] for asked in history)
        for got_, q in zip(row["asked"], coin.QUANTILES, strict=True):
            wanted = ranked[round(q * 11)]
            assert got_ is None if math.isinf(wanted) else got_ == pytest.approx(wanted, rel=1e-2, abs=1e-3), name


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("gap", "gradient", "change"),
    [
        (0.0, 1.0, 1.0),  # the shadow stands on the parameters
        (1.0, 1.0, 0.0),  # the gradient has not changed: the first step
        (0.0, 0.0, 0.0),  # a parameter that is not in use
        (1e-30, 1.0, 1e-30),  # their product underflows
        (math.nan, 1.0, 1.0),
        (1.0, math.nan, math.nan),
        (1.0, math.inf, math.inf),
        (math.inf, 1.0, 1.0),
    ],
)
def test_a_degenerate_step_never_gives_a_weight_out_of_range(
    mode: Mode, gap: float, gradient: float, change: float
) -> None:
    a, b, c = (torch.tensor([value, 1e4]) for value in (gap, gradient, change))
    used = coin.in_range(coin.asked(mode, 1e-4, a, b, c, torch.tensor(0.5))).tolist()
    assert used[1]  # what is degenerate stays with its own tensor
    assert not used[0]


@pytest.mark.parametrize("granularity", Granularity)
def test_a_gradient_that_is_no_number_costs_the_weight_of_its_partners_only(granularity: Granularity) -> None:
    names = ["a.weight", "a.bias", "b.weight"]
    shared = coin.partners(names, granularity)
    tensors = [torch.tensor([1.0, -2.0]), torch.tensor(math.nan), torch.tensor([[4.0]])]
    wanted = {
        Granularity.TENSOR: [3.0, math.nan, 4.0],
        Granularity.LAYER: [math.nan, math.nan, 4.0],
        Granularity.GLOBAL: [math.nan] * 3,
    }
    assert torch.equal(coin.norms(tensors, shared).nan_to_num(-1), torch.tensor(wanted[granularity]).nan_to_num(-1))
    tensors[1] = torch.tensor(-5.0)
    sums = {Granularity.TENSOR: [3, 5, 4], Granularity.LAYER: [8, 8, 4], Granularity.GLOBAL: [12, 12, 12]}
    assert coin.norms(tensors, shared).tolist() == sums[granularity]


def begun(type_: torch.dtype = torch.float32, **values: Any) -> Any:
    """A strategy between `begin` and its first step of the second experience, all gradients at 0.1."""
    stream = digits()
    learner = strategy("coin", stream, **values)
    learn(learner, shortened(stream.experiences[0], 64))
    learner.model.to(type_)
    learner.past = inherited.copies(inherited.numbers(learner.model))
    learner.begin(stream.experiences[1])
    for parameter in learner.model.parameters():
        parameter.grad = torch.full_like(parameter, 0.1)
    return learner


def test_a_step_with_a_nan_gradient_falls_back_there_and_the_shadow_stays_finite() -> None:
    learner = begun(fallback=0.25, constant=1e-4)
    learner.after_step()
    before = {name: t.clone() for name, t in learner.past.items()}
    for parameter in learner.model.parameters():
        parameter.data += 1.0
        parameter.grad = torch.full_like(parameter, -0.1)
    name, broken = next(iter(learner.model.named_parameters()))
    broken.grad.view(-1)[0] = math.nan
    learner.after_step()
    assert all(t.isfinite().all() for t in learner.past.values())
    assert torch.allclose(learner.past[name] - before[name], torch.tensor(0.25))
    others = [n for n, _ in learner.model.named_parameters() if n != name]
    assert all((learner.past[n] - before[n] < 0.2).all() for n in others)
    fallbacks = {n: row["fallbacks"] for n, row in learner.notes()["parameters"].items()}
    assert fallbacks == {name: 2, **dict.fromkeys(others, 1)}  # the first step has no earlier gradient


@pytest.mark.parametrize("mode", MODES)
def test_where_nothing_changes_the_shadow_stands_still_and_every_update_is_a_fallback(mode: Mode) -> None:
    learner = begun(mode=mode)
    before = {name: t.clone() for name, t in learner.past.items()}
    for _ in range(3):
        learner.after_step()
    assert all(torch.equal(t, before[name]) for name, t in learner.past.items())
    notes = learner.notes()
    assert notes["fallbacks"] == notes["updates"] == 3 * len(list(learner.model.parameters()))
    assert json.loads(json.dumps(notes, allow_nan=False)) == notes


def test_one_missing_gradient_is_zero_and_none_at_all_is_an_error() -> None:
    missing, zero = begun(constant=1e-3), begun(constant=1e-3)
    for learner in (missing, zero):
        for value in (0.1, 0.3):
            for index, parameter in enumerate(learner.model.parameters()):
                parameter.data += value
                parameter.grad = torch.full_like(parameter, value)
                if index == 0:
                    parameter.grad = None if learner is missing else torch.zeros_like(parameter)
            learner.after_step()
    assert all(torch.equal(t, zero.past[name]) for name, t in missing.past.items())
    missing.model.zero_grad()
    with pytest.raises(RuntimeError, match="gradients are gone"):
        missing.after_step()


def test_weights_of_less_precision_are_followed_where_they_lie_as_their_values_would_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Copies would have other addresses in each step, which a GPU would have to be told each time."""
    half, whole = begun(torch.bfloat16, constant=1e-3), begun(constant=1e-3)
    whole.model.load_state_dict(half.model.state_dict())
    for name, past in half.past.items():
        whole.past[name].copy_(past)
    followed: list[list[int]] = []

    def watched(averages: list[Tensor], tensors: list[Tensor], weight: Tensor) -> None:
        followed.append([t.data_ptr() for t in tensors])
        ema_merge_(averages, tensors, weight)

    for value in (0.25, 0.5, 1.0):
        for parameter, other in zip(half.model.parameters(), whole.model.parameters(), strict=True):
            parameter.data += value
            other.data.copy_(parameter.data)
            parameter.grad, other.grad = torch.full_like(parameter, value), torch.full_like(other, value)
        whole.after_step()
        with monkeypatch.context() as patch:
            patch.setattr(coin, "ema_merge_", watched)
            half.after_step()
    assert all(torch.equal(t, whole.past[name]) for name, t in half.past.items())
    assert [t.dtype for t in half.past.values()] == [torch.float32] * len(half.past)
    state = half.model.state_dict()
    assert followed == [[state[name].data_ptr() for name in half.past]] * 3


def test_frozen_parameters_are_left_out() -> None:
    stream = digits()
    learner = strategy("coin", stream)
    learn(learner, shortened(stream.experiences[0], 64))
    learner.model.backbone.stages[0].requires_grad_(False)
    frozen = learner.model.backbone.stages[0].conv.weight.detach().clone()
    learn(learner, shortened(stream.experiences[1], 64))
    assert not any("stages.0" in name for name in learner.notes()["parameters"])
    assert torch.equal(learner.model.backbone.stages[0].conv.weight, frozen)


def test_fixed_is_the_fixed_average() -> None:
    stream = digits()
    ends = []
    for name, values in (("coin", {"mode": Mode.FIXED, "fallback": 0.1}), ("fixed_ema", {"decay": 0.9})):
        learner = strategy(name, stream, **values)
        for experience in stream.experiences[:3]:
            learn(learner, shortened(experience, 96))
        assert learner.notes() == {}  # nothing is asked
        ends.append(numbers(learner))
    for name, got in ends[0].items():
        assert torch.allclose(got, ends[1][name], atol=1e-5), name


@pytest.mark.parametrize(("field", "value"), [("constant", 0.0), ("constant", math.inf), ("fallback", 1.5)])
def test_values_out_of_range_name_the_field(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"strategy\.{field} must be"):
        CoINConfig(**{field: value})  # type: ignore[arg-type]
