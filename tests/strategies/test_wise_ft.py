from __future__ import annotations

from typing import Any

import pytest
import torch

from clbench.engine import learn
from clbench.errors import ConfigError
from clbench.record import Setting
from clbench.strategies.wise_ft import WiSEFTConfig
from tests.learning import OF_CLASSES, digits, shortened, strategy


def ends(name: str, setting: Setting, **values: Any) -> list[dict[str, torch.Tensor]]:
    """Floating-point numbers of the model's state after one and after two experiences."""
    stream = digits(setting)
    learner = strategy(name, stream, **values)
    found = []
    for experience in stream.experiences[:2]:
        learn(learner, shortened(experience, 64))
        state = learner.model.state_dict()
        found.append({key: t.clone() for key, t in state.items() if t.is_floating_point()})
    return found


@pytest.mark.parametrize("setting", OF_CLASSES)
def test_zero_is_the_weights_before_and_one_is_naive(setting: Setting) -> None:
    naive = ends("naive", setting)
    still, free = (ends("wise_ft", setting, weight=weight) for weight in (0.0, 1.0))
    for name, before in naive[0].items():
        assert torch.equal(still[0][name], before)  # the first experience is not mixed
        assert torch.equal(still[1][name][: len(before)], before)
        assert torch.equal(still[1][name][len(before) :], naive[1][name][len(before) :])  # new rows: as trained
        assert torch.equal(free[1][name], naive[1][name])


def test_between_them_it_is_their_mean_batch_norms_statistics_too() -> None:
    naive = ends("naive", Setting.CLASS_INCREMENTAL)
    mixed = ends("wise_ft", Setting.CLASS_INCREMENTAL, weight=0.25)[1]
    moved = set()
    for name, before in naive[0].items():
        after = naive[1][name][: len(before)]
        assert torch.allclose(mixed[name][: len(before)], 0.75 * before + 0.25 * after, atol=1e-6), name
        if not torch.equal(before, after):
            moved.add(name.rpartition(".")[2])
    assert {"weight", "bias", "running_mean", "running_var"} <= moved


def test_what_it_keeps_between_experiences_is_the_model_alone() -> None:
    stream = digits()
    learner = strategy("wise_ft", stream)
    for experience in stream.experiences[:2]:
        learn(learner, shortened(experience, 32))
    assert learner.stored_bytes() == 0


@pytest.mark.parametrize("weight", [-0.1, 1.1])
def test_a_weight_out_of_range_is_one_sentence(weight: float) -> None:
    with pytest.raises(ConfigError, match=r"strategy\.weight must be in \[0, 1\]"):
        WiSEFTConfig(weight=weight)
