from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from clbench.digest import state_digest
from clbench.edits.located import Pipeline
from clbench.edits.location import Module
from clbench.engine import learn
from clbench.errors import ConfigError
from clbench.memory import MemoryConfig, Policy
from clbench.scenario import Experience
from clbench.strategies.locft_bf import PREFIX, Access, LocFTBFConfig, preceded
from clbench.table import Batch
from tests.language import BOS, EOS, PAD, editor, edits_to_learn, network

WEIGHT = "model.layers.1.mlp.down_proj.weight"
REPLAY = {"access": Access.REPLAY, "memory": MemoryConfig(2, Policy.RESERVOIR)}


def made(access: Access, **values: Any) -> Any:
    """A learner that notes which rows it trains on, and the weights that it starts from."""
    memory = {"memory": REPLAY["memory"]} if access is Access.REPLAY else {}
    learner = editor("locft_bf", access=access, location=WEIGHT, **{**memory, **values})
    learner.shown, learner.started = [], []
    plain = learner.training_table

    def noted(experience: Experience) -> Any:
        table = plain(experience)
        learner.shown.append(table.rows.tolist())
        learner.started.append(learner.tuned[WEIGHT].detach().clone())
        return table

    learner.training_table = noted
    return learner


@pytest.mark.parametrize(
    ("access", "rows", "word"),
    [
        (Access.NO_REPLAY, [[0, 1, 2], [3, 4], [5, 6]], "no replay"),
        (Access.CUMULATIVE_CONTINUE, [[0, 1, 2], [0, 1, 2, 3, 4], list(range(7))], "cumulative continue"),
        (Access.CUMULATIVE_FROM_BASE, [[0, 1, 2], [0, 1, 2, 3, 4], list(range(7))], "cumulative from base"),
    ],
)
def test_the_past_is_seen_as_the_access_says(access: Access, rows: list[list[int]], word: str) -> None:
    learner = made(access)
    for experience in edits_to_learn((3, 2, 2)):
        learn(learner, experience)
    assert learner.shown == rows
    assert type(learner).access(learner.config) == word
    unedited = network().get_parameter(WEIGHT)
    back = [torch.equal(weights, unedited) for weights in learner.started]
    assert back == [True, *[access is Access.CUMULATIVE_FROM_BASE] * 2]
    kept = {Access.NO_REPLAY: 0}.get(access, 7)
    assert len(learner.seen) == kept


@pytest.mark.parametrize("access", [Access.REPLAY, Access.CUMULATIVE_CONTINUE])
def test_depth_first_trains_on_each_edit_that_may_be_seen_once_and_alone(access: Access) -> None:
    learner = made(access, pipeline=Pipeline.DEPTH_FIRST, steps=2, stop=0.0)
    sizes: list[int] = []
    plain = learner.loss

    def counted(batch: Batch) -> Tensor:
        sizes.append(len(batch["tokens"]))
        loss: Tensor = plain(batch)
        return loss

    learner.loss = counted
    for experience in edits_to_learn((3, 2)):
        learn(learner, experience)
    seen = [*learner.shown[0], *learner.shown[1]]
    assert len(learner.shown) == 2
    assert sizes == [1] * 2 * len(seen)
    assert len(seen) == {Access.REPLAY: 3 + 2 + 2, Access.CUMULATIVE_CONTINUE: 3 + 3 + 2}[access]


def test_replay_sees_as_many_of_all_past_edits_as_it_keeps() -> None:
    drawn = set()
    for seed in range(6):
        learner = made(Access.REPLAY, seed=seed)
        for experience in edits_to_learn((3, 2, 2)):
            learn(learner, experience)
        first, second, third = learner.shown
        assert first == [0, 1, 2]
        assert second[2:] == [3, 4]
        assert third[2:] == [5, 6]
        assert len(set(second[:2])) == len(set(third[:2])) == 2
        assert set(second[:2]) <= {0, 1, 2}
        assert set(third[:2]) <= {0, 1, 2, 3, 4}
        drawn |= set(third[:2])
    assert type(learner).access(learner.config) == "replay 2"
    assert drawn & {0, 1, 2}
    assert drawn & {3, 4}


@pytest.mark.parametrize("values", [{"access": Access.REPLAY}, {"memory": MemoryConfig(5)}])
def test_replay_goes_with_a_memory(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"access=replay goes with strategy.memory.capacity >= 1; give both or"):
        LocFTBFConfig(**values)


def test_all_edits_from_the_base_are_what_all_edits_at_once_are() -> None:
    """The last experience of a stream that is learnt anew each time is the paper's single one."""
    stream, offline = made(Access.CUMULATIVE_FROM_BASE), made(Access.NO_REPLAY)
    for experience in edits_to_learn((3, 2, 2)):
        learn(stream, experience)
    (whole,) = edits_to_learn((7,))
    learn(offline, whole)
    torch.testing.assert_close(stream.tuned[WEIGHT], offline.tuned[WEIGHT], rtol=0, atol=1e-5)


@pytest.mark.parametrize("pipeline", list(Pipeline))
@pytest.mark.parametrize("access", list(Access))
def test_a_restored_stream_goes_on_with_the_same_bits(access: Access, pipeline: Pipeline) -> None:
    whole, other = (made(access, pipeline=pipeline, augment=1, steps=3) for _ in range(2))
    first, second, third = edits_to_learn((3, 2, 2))
    learn(whole, first)
    learn(whole, second)
    other.restore(copy.deepcopy(whole.state()))
    assert whole.stored_bytes() == other.stored_bytes()
    for learner in (whole, other):
        learn(learner, third)
    assert state_digest(whole.state()) == state_digest(other.state())
    assert whole.stored_bytes() == other.stored_bytes()


def test_what_is_kept_is_weighed() -> None:
    row = edits_to_learn((3,))[0].train.source.row_bytes
    weight = network().get_parameter(WEIGHT).numel() * 4
    wanted = {
        Access.NO_REPLAY: 0,
        Access.REPLAY: 2 * row,
        Access.CUMULATIVE_CONTINUE: 3 * row,
        Access.CUMULATIVE_FROM_BASE: 3 * row + weight,
    }
    for access, size in wanted.items():
        learner = made(access)
        learn(learner, edits_to_learn((3,))[0])
        assert learner.stored_bytes() == size


def test_tokens_are_put_behind_the_first_one() -> None:
    columns = {
        "tokens": torch.tensor([[BOS, 5, 6, EOS], [BOS, 7, EOS, PAD]], dtype=torch.int32),
        "prompt": torch.tensor([2, 2], dtype=torch.int32),
        "length": torch.tensor([4, 3], dtype=torch.int32),
    }
    found = preceded(columns, torch.tensor([[8, 9, PAD], [9, PAD, PAD]]), PAD)
    assert found["tokens"].tolist() == [[BOS, 8, 9, 5, 6, EOS, PAD], [BOS, 9, 7, EOS, PAD, PAD, PAD]]
    assert found["prompt"].tolist() == [4, 3]
    assert found["length"].tolist() == [6, 4]
    assert {c.dtype for c in found.values()} == {torch.int32}


@pytest.mark.parametrize("pad", [PAD, EOS])
def test_augmented_rows_are_the_edits_after_texts_of_the_model_s_own(pad: int) -> None:
    (experience,) = edits_to_learn((5,), pad)
    learner = editor("locft_bf", pad=pad, augment=2, location=WEIGHT)
    table = learner.training_table(experience)
    again = editor("locft_bf", pad=pad, augment=2, location=WEIGHT).training_table(experience)
    assert len(table) == 15
    columns = {name: table.column(name).tolist() for name in ("tokens", "prompt", "length")}
    assert columns == {name: again.column(name).tolist() for name in columns}
    found = [(tokens[:length], prompt) for tokens, prompt, length in zip(*columns.values(), strict=True)]
    plain = [
        (tokens[:length], prompt)
        for tokens, prompt, length in zip(*(experience.train.column(name).tolist() for name in columns), strict=True)
    ]
    assert found[:5] == plain
    texts = []
    for place, (row, prompt) in enumerate(found[5:]):
        edit, size = plain[place % 5]
        extra = prompt - size
        assert 0 <= extra <= PREFIX
        assert row[0] == BOS
        assert row[1 + extra :] == edit[1:]
        texts.append(tuple(row[1 : 1 + extra]))
    assert len(set(texts)) > 5  # each row has its own
    assert not any(EOS in text for text in texts)


def test_offline_edits_are_learnt_at_one_location_and_depth_first_ones_are_overwritten() -> None:
    """The claim itself, small: the same edits, location, rate and steps, in the two orders."""
    (experience,) = edits_to_learn((5,))
    table = experience.train
    known = {}
    for pipeline in Pipeline:
        learner = editor("locft_bf", pipeline=pipeline, epochs=100, steps=100, module=Module.ALL, lr=5e-3)
        learn(learner, experience)
        learner.model.eval()
        known[pipeline] = learner.loss(learner.problem.transform.evaluate(table.source.take(table.rows))).item()
    assert known[Pipeline.BREADTH_FIRST] < 0.05
    assert known[Pipeline.DEPTH_FIRST] > 10 * known[Pipeline.BREADTH_FIRST]
