from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from clbench import inherited
from clbench.engine import learn
from clbench.errors import ConfigError
from clbench.half import units
from clbench.strategies.half_reset import HalfReset, HalfResetConfig
from tests.learning import digits, problem, shortened, strategy

Numbers = dict[str, Tensor]


def ends(name: str, model: str = "small_vit", **values: Any) -> tuple[Any, list[Numbers]]:
    """The learner, and the model's numbers after each of three experiences."""
    stream = digits()
    learner = strategy(name, stream, model=model, **values)
    found = []
    for experience in stream.experiences[:3]:
        learn(learner, shortened(experience, 64))
        found.append(inherited.copies(inherited.numbers(learner.model)))
    return learner, found


def unit_of(name: str) -> str:
    return name.rpartition(".")[0]


@pytest.mark.parametrize("model", ["small_cnn", "small_vit"])
def test_what_is_noted_goes_back_and_the_rest_is_naive(model: str) -> None:
    stream = digits()
    learner, plain = strategy("half_reset", stream, model=model), strategy("naive", stream, model=model)
    learn(learner, shortened(stream.experiences[0], 64))
    assert learner.notes() == {"reset": []}
    drawn = []
    for experience in stream.experiences[1:4]:
        plain.restore(learner.state())
        before = inherited.copies(inherited.numbers(learner.model))
        for each in (learner, plain):
            learn(each, shortened(experience, 64))
        naive, reset = inherited.numbers(plain.model), set(learner.notes()["reset"])
        assert reset
        for name, got in inherited.numbers(learner.model).items():
            wanted = before[name] if unit_of(name) in reset else naive[name]
            assert torch.equal(got, wanted), name
        drawn.append(frozenset(reset))
    assert len(set(drawn)) > 1  # drawn anew


def test_half_of_each_category_goes_back_and_nothing_outside_the_blocks() -> None:
    learner, _ = ends("half_reset")
    members = {unit.name: unit for unit in units(learner.model)}
    reset = [members[name] for name in learner.notes()["reset"]]
    for kind in {unit.category for unit in members.values()}:
        each = [unit for unit in members.values() if unit.category == kind]
        assert sum(unit.category == kind for unit in reset) == len(each) / 2


def test_its_ends_are_naive_and_blocks_that_stand_still() -> None:
    naive, all_kept = ends("naive")[1], ends("half_reset", ratio=1.0)[1]
    assert all(torch.equal(got, naive[2][name]) for name, got in all_kept[2].items())
    learner, found = ends("half_reset", ratio=0.0)
    inside = {unit.name for unit in units(learner.model)}
    assert all(torch.equal(found[2][name], found[0][name]) for name in found[2] if unit_of(name) in inside)
    assert not torch.equal(found[2]["head.weight"][:2], found[0]["head.weight"])


def test_a_pretrained_model_is_reset_after_its_first_experience() -> None:
    told = replace(problem(digits()), pretrained=True)
    learner = HalfReset(HalfResetConfig(epochs=1), told)
    learn(learner, shortened(digits().experiences[0], 64))
    assert learner.notes()["reset"]


def test_adapters_leave_nothing_to_choose_from() -> None:
    told = problem(digits())
    model = told.model()
    model.backbone.requires_grad_(False)
    frozen = replace(told, model=lambda: model)
    assert "adapters leave no whole matrices" in str(HalfReset.skip(HalfResetConfig(), frozen))
    assert HalfReset.skip(HalfResetConfig(ratio=1.0), frozen) is None
    assert HalfReset.skip(HalfResetConfig(), told) is None


@pytest.mark.parametrize("ratio", [-0.1, 1.1])
def test_a_ratio_out_of_range_is_one_sentence(ratio: float) -> None:
    with pytest.raises(ConfigError, match=r"strategy\.ratio must be in \[0, 1\]"):
        HalfResetConfig(ratio=ratio)
