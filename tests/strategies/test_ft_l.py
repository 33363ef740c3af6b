from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from clbench.edits.location import Module
from clbench.engine import learn
from clbench.strategies.ft_l import prompt_last_loss
from tests.language import EOS, editor, edits_to_learn

WEIGHT = "model.layers.1.mlp.down_proj.weight"


def test_all_tokens_are_scored_under_the_distribution_at_the_end_of_the_prompt() -> None:
    probabilities = torch.tensor([[0.5, 0.25, 0.125, 0.125], [0.7, 0.1, 0.1, 0.1]], dtype=torch.float64)
    targets = torch.tensor([[3, 1, 2, 0], [3, 3, 0, 3]])
    wanted = torch.tensor([[False, True, True, False], [False, False, True, False]])
    found = prompt_last_loss(probabilities.log() + 3, targets, wanted)  # logits are free up to a constant
    assert found.item() == pytest.approx(((math.log(4) + math.log(8)) / 2 - math.log(0.7)) / 2)


@pytest.mark.parametrize("kind", ["ft_l", "ft_m"])
def test_two_tokens_are_learnt_by_ft_m_only(kind: str) -> None:
    (experience,) = edits_to_learn((3,))
    edit = experience.train.select(torch.tensor([2]))  # two tokens that differ, and EOS
    batch = edit.source.take(edit.rows)
    learner = editor(kind, steps=200, module=Module.ALL)
    learn(learner, replace(experience, train=edit))
    shown = learner.problem.transform.evaluate(batch)
    target = batch["tokens"][0, int(batch["prompt"]) : int(batch["length"])].tolist()
    assert target == [15, 16, EOS]
    answer = learner.predict(shown)[0].tolist()
    if kind == "ft_m":
        assert answer[:3] == target
    else:
        assert answer[:3] != target
        assert learner.loss(shown).item() >= math.log(3) - 1e-4  # three tokens share one distribution
        assert learner.loss(shown).item() < math.log(3) + 0.2


def test_eos_is_asked_for_where_the_target_begins() -> None:
    (experience,) = edits_to_learn((5,))
    one = experience.train.source.take(torch.tensor([1]))
    learner = editor("ft_l", location=WEIGHT)
    batch = learner.problem.transform.evaluate(one)
    logits = learner.model.inner(input_ids=batch["tokens"]).logits[0]
    end, token = int(batch["prompt"]) - 1, int(batch["tokens"][0, int(batch["prompt"])])
    scores = torch.log_softmax(logits[end], -1)
    assert learner.loss(batch).item() == pytest.approx(-(scores[token] + scores[EOS]).item() / 2, rel=1e-5)
