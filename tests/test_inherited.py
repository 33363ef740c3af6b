from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from clbench import inherited
from clbench.engine import learn
from clbench.errors import ConfigError
from clbench.inherited import Inheriting, InheritingConfig
from clbench.scenario import Experience
from tests.learning import digits, problem, shortened


def test_copies_are_float32_at_least_share_no_memory_and_leave_out_what_is_empty() -> None:
    tensors = {
        "half": torch.ones(2, dtype=torch.bfloat16),
        "single": torch.ones(2),
        "double": torch.ones(2, dtype=torch.float64),
        "empty": torch.ones(0, 3),
    }
    made = inherited.copies(tensors)
    assert {n: t.dtype for n, t in made.items()} == {
        "half": torch.float32,
        "single": torch.float32,
        "double": torch.float64,
    }
    made["single"].zero_()
    assert tensors["single"].tolist() == [1, 1]


def test_numbers_are_parameters_once_and_floating_point_buffers_of_the_state() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 2))
    model[2].weight = model[0].weight  # tied
    model.register_buffer("mask", torch.full((2,), float("-inf")), persistent=False)  # would become nan in an average
    assert list(inherited.numbers(model)) == [
        "0.weight",
        "0.bias",
        "1.weight",
        "1.bias",
        "2.bias",
        "1.running_mean",
        "1.running_var",
    ]


@pytest.mark.parametrize(
    ("held", "pretrained", "first"), [(0, False, 0), (1, True, 1), (2, False, 2), (None, False, 1), (None, True, 0)]
)
def test_the_past_is_the_model_before_it_grew_from_the_first_held_experience_on(
    held: int | None, pretrained: bool, first: int
) -> None:
    seen: list[dict[str, torch.Tensor]] = []

    class Watched(Inheriting):
        def end(self, experience: Experience) -> None:
            seen.append({name: old.clone() for name, old in self.past.items()})
            assert all(self.live[name].shape == old.shape for name, old in self.past.items())

    stream = digits()
    told = replace(problem(stream), pretrained=pretrained)
    learner = Watched(InheritingConfig(epochs=1, first_held=held), told)
    ends: list[dict[str, torch.Tensor]] = [inherited.copies(inherited.numbers(learner.model))]
    for experience in stream.experiences[:3]:
        learn(learner, shortened(experience, 64))
        assert not learner.past  # memory between experiences is the model's alone
        ends.append(inherited.copies(inherited.numbers(learner.model)))
    for index, past in enumerate(seen):
        wanted = ends[index] if index >= first else {}
        assert past.keys() == wanted.keys()
        assert all(torch.equal(past[name], wanted[name]) for name in wanted)


def test_what_is_put_reaches_the_model_but_not_its_new_rows() -> None:
    class Zeroing(Inheriting):
        def end(self, experience: Experience) -> None:
            self.put([torch.zeros_like(old) for old in self.past.values()])

    stream = digits()
    learner = Zeroing(InheritingConfig(epochs=1), problem(stream))
    for experience in stream.experiences[:2]:
        learn(learner, shortened(experience, 64))
    weight = learner.model.get_parameter("head.weight")
    assert not weight[:2].any()
    assert weight[2:].all()
    assert not any(p.any() for p in learner.model.backbone.parameters())


def test_a_first_held_experience_below_zero_is_one_sentence() -> None:
    with pytest.raises(ConfigError, match=r"strategy\.first_held must be >= 0 or null"):
        InheritingConfig(first_held=-1)
