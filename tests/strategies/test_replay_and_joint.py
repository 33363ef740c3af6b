from __future__ import annotations

from typing import Any

import pytest
import torch

from clbench.engine import learn
from clbench.errors import ConfigError
from clbench.examination import measure
from clbench.finetune import FineTune
from clbench.strategy import strategies
from clbench.table import Batch
from tests.learning import digits, shortened, strategy


def labels_of_batches(name: str, **values: Any) -> list[list[set[int]]]:
    stream = digits()
    learner = strategy(name, stream, **values)
    assert isinstance(learner, FineTune)
    seen: list[list[set[int]]] = []
    loss = learner.loss

    def watched(batch: Batch) -> torch.Tensor:
        seen[-1].append(set(batch["label"].tolist()))
        return loss(batch)

    learner.loss = watched  # type: ignore[method-assign]
    for experience in stream.experiences[:3]:
        seen.append([])
        learn(learner, experience)
    return seen


def test_replay_joins_exemplars_of_past_experiences_only() -> None:
    first, second, third = labels_of_batches("replay")
    assert set().union(*first) == {0, 1}
    assert set().union(*second) == {0, 1, 2, 3}
    assert all(batch & {0, 1, 2, 3} for batch in third)


def test_any_strategy_takes_a_memory() -> None:
    from clbench.memory import MemoryConfig

    _, second, _ = labels_of_batches("naive", memory=MemoryConfig(capacity=20))
    assert set().union(*second) == {0, 1, 2, 3}


def test_joint_learns_everything_seen() -> None:
    _, second, third = labels_of_batches("joint")
    assert set().union(*second) == {0, 1, 2, 3}
    assert set().union(*third) == {0, 1, 2, 3, 4, 5}


def test_joint_is_the_model_trained_on_all_from_scratch() -> None:
    stream = digits()
    learner = strategy("joint", stream)
    sizes = []
    for experience in stream.experiences[:2]:
        learn(learner, shortened(experience, 100))
        sizes.append(learner.stored_bytes() // stream.experiences[0].train.source.row_bytes)
    assert sizes == [100, 200]
    assert type(learner).workload(stream) > type(strategy("naive", stream)).workload(stream)


def test_naive_forgets_replay_forgets_less_joint_least() -> None:
    stream = digits()
    right = {}
    for name in ("naive", "replay", "joint"):
        learner = strategy(name, stream, epochs=3)
        for experience in stream.experiences:
            learn(learner, experience)
        right[name] = sum(m.correct for m in measure(learner, stream, 5))
    assert right["naive"] + 50 < right["replay"] < right["joint"]


@pytest.mark.parametrize(("name", "capacity"), [("replay", 0), ("joint", 10)])
def test_a_capacity_that_makes_no_sense_is_one_sentence(name: str, capacity: int) -> None:
    from clbench.memory import MemoryConfig

    _, config = strategies.load(name)
    with pytest.raises(ConfigError, match=r"strategy\.memory\.capacity must be"):
        config(memory=MemoryConfig(capacity=capacity))
