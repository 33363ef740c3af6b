from __future__ import annotations

import pytest

from clbench.engine import learn
from clbench.half import units
from tests.learning import digits, shortened, strategy


@pytest.mark.parametrize("model", ["resnet32", "small_vit"])
def test_by_default_half_of_the_units_train_and_what_is_outside_the_blocks(model: str) -> None:
    stream = digits()
    learner = strategy("hft", stream, model=model, first_frozen=0)
    learn(learner, shortened(stream.experiences[0], 32))
    members = units(learner.model)
    assert len(learner.frozen) / len(members) == pytest.approx(0.5, abs=0.1)
    inside = tuple({f"{unit.block}." for unit in members})
    outside = [n for n, _ in learner.model.named_parameters() if not n.startswith(inside)]
    assert len(outside) > 3
    assert all(learner.model.get_parameter(n).requires_grad for n in outside)
