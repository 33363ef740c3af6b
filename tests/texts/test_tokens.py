from __future__ import annotations

import math

import pytest
import torch

from clbench.models.causal import CausalModel
from clbench.table import Batch
from clbench.texts.tokens import TokenTransform, answered, columns, rows_at_once, without_answers
from tests.language import BigramNetwork

PAD, BOS, EOS = 0, 1, 2
PROMPTS, ANSWERS = [[BOS, 5, 6], [BOS], [BOS, 7]], [[8, EOS], [9, 5, 6, EOS], [EOS]]


def batch() -> Batch:
    return TokenTransform("", "", 8).evaluate(columns(PROMPTS, ANSWERS, PAD))


def test_rows_are_prompt_answer_and_padding() -> None:
    made = columns(PROMPTS, ANSWERS, PAD)
    assert made["tokens"].tolist() == [[1, 5, 6, 8, 2], [1, 9, 5, 6, 2], [1, 7, 2, 0, 0]]
    assert made["prompt"].tolist() == [3, 1, 2]
    assert made["length"].tolist() == [5, 5, 3]
    assert {column.dtype for column in made.values()} == {torch.int32}


def test_no_rows_are_columns_too() -> None:
    made = columns([], [], PAD)
    assert made["tokens"].shape == (0, 0)
    assert len(TokenTransform("", "", 8).evaluate(made)["tokens"]) == 0


def test_prompts_and_answers_that_do_not_pair_up_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        columns(PROMPTS, ANSWERS[:2], PAD)


def test_positions_before_a_token_of_the_answer_are_learnt() -> None:
    wanted = [[0, 0, 1, 1], [1, 1, 1, 1], [0, 1, 0, 0]]  # of each row's positions 0 .. 3, which tell 1 .. 4
    assert answered(columns(PROMPTS, ANSWERS, PAD)).int().tolist() == wanted


def test_the_loss_is_that_of_the_answers_and_their_ends_alone() -> None:
    """By hand in float64: a network whose next token depends on this one only, and a table of log-probabilities."""
    network = BigramNetwork(10)
    table = torch.log_softmax(network.scores.detach().double(), dim=1)
    pairs = [(6, 8), (8, EOS), (BOS, 9), (9, 5), (5, 6), (6, EOS), (7, EOS)]
    wanted = -math.fsum(float(table[this, following]) for this, following in pairs) / len(pairs)
    model = CausalModel(network, PAD, EOS, 4)
    assert model.loss(batch()).item() == pytest.approx(wanted, rel=1e-6)


def test_what_is_asked_holds_nothing_of_the_answers() -> None:
    other = columns(PROMPTS, [[3, EOS], [4, 4, 4, EOS], [EOS]], PAD)
    shown, same = without_answers(columns(PROMPTS, ANSWERS, PAD), PAD), without_answers(other, PAD)
    assert shown["tokens"].tolist() == [[1, 5, 6, 0, 0], [1, 0, 0, 0, 0], [1, 7, 0, 0, 0]]
    assert shown["length"].tolist() == shown["prompt"].tolist() == [3, 1, 2]
    assert all(torch.equal(shown[name], same[name]) for name in shown)


def test_the_transform_cuts_padding_and_nothing_else() -> None:
    made = columns(PROMPTS, ANSWERS, PAD)
    made = {name: column[2:] for name, column in made.items()} | {"label": torch.tensor([4])}
    transform = TokenTransform("{input}", "digest", 8)
    for cut in (transform.evaluate(made), transform.train(made, torch.Generator())):
        assert cut["tokens"].tolist() == [[1, 7, 2]]
        assert cut["tokens"].dtype == torch.int64
        assert cut["label"].tolist() == [4]
    asked = transform.evaluate(without_answers(made, PAD))
    assert asked["tokens"].tolist() == [[1, 7]]
    assert transform.output_shape((5,)) == (5,)
    assert "{input}" in repr(transform)


def test_few_long_texts_and_many_short_ones_are_answered_together() -> None:
    def rows(width: int) -> int:
        return rows_at_once({"tokens": torch.empty(2, width, dtype=torch.int32, device="meta")}, 256)

    assert [rows(width) for width in (0, 1, 256, 1024, 1 << 20)] == [256, 256, 256, 64, 1]
    assert rows_at_once({"image": torch.empty(2, 3, 224, 224, device="meta")}, 256) == 256
