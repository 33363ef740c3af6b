from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from clbench.digest import state_digest
from clbench.engine import learn
from clbench.errors import ConfigError, IncompatibleError
from clbench.examination import measure
from clbench.scenario import Stream
from clbench.strategies import dpo
from clbench.strategy import strategies
from clbench.table import Batch, Table
from clbench.texts.tokens import rejected
from tests.learning import instructions, strategy


@pytest.fixture(scope="module")
def stream() -> Stream:
    return instructions(preferences=True).stream(0)


def likelihoods(learner: Any, batch: Batch) -> torch.Tensor:
    """Of whole answers, by a plain forward pass over each row alone, in float64."""
    found = []
    for tokens, prompt, length in zip(batch["tokens"], batch["prompt"], batch["length"], strict=True):
        row = tokens[: int(length)].long()[None]
        logits = learner.model.network(input_ids=row).logits[0].double().log_softmax(1)
        places = range(int(prompt), int(length))
        found.append(torch.stack([logits[place - 1, row[0, place]] for place in places]).sum())
    return torch.stack(found)


def test_the_loss_is_that_of_the_paper(stream: Stream) -> None:
    learner = strategy("dpo", stream, strength=0.3, lr=1e-2)
    learn(learner, replace(stream.experiences[0], train=stream.experiences[0].train.select(torch.arange(32))))
    batch = stream.experiences[0].train.source.take(torch.arange(6))
    other = strategy("dpo", stream)
    learner.reference = other.model.eval()
    learner.model.eval()
    with torch.no_grad():
        ours = learner.loss(stream.transform.evaluate(batch))
        chosen, refused = batch, rejected(batch)
        ratios = [likelihoods(learner, side) - likelihoods(other, side) for side in (chosen, refused)]
    paper = -torch.log(1 / (1 + torch.exp(-0.3 * (ratios[0] - ratios[1])))).mean()
    assert abs(float(ratios[0].abs().max())) > 0.01
    assert float(ours) == pytest.approx(float(paper), rel=1e-4)


def test_the_rejected_answer_differs_and_has_the_same_prompt(stream: Stream) -> None:
    for experience in stream.experiences:
        batch = next(experience.train.batches(64))
        other = rejected(batch)
        for row in range(len(batch["label"])):
            prompt = int(batch["prompt"][row])
            ours, theirs = batch["tokens"][row], other["tokens"][row]
            assert torch.equal(ours[:prompt], theirs[:prompt])
            assert ours[: int(batch["length"][row])].tolist() != theirs[: int(other["length"][row])].tolist()


def test_it_comes_to_prefer_what_is_preferred(stream: Stream) -> None:
    learner = strategy("dpo", stream, epochs=4, lr=1e-3)
    experience = stream.experiences[1]
    batch = next(Table(experience.train.source, experience.train.rows).batches(64))
    margins = []
    for _ in range(2):
        with torch.no_grad():
            margins.append(likelihoods(learner, batch) - likelihoods(learner, rejected(batch)))
        if len(margins) == 1:
            learn(learner, experience)
    assert float((margins[1] - margins[0]).mean()) > 1


def test_half_of_it_stays(stream: Stream) -> None:
    learner = strategy("dpo", stream, ratio=0.5)
    before = {name: p.detach().clone() for name, p in learner.model.named_parameters()}
    learn(learner, stream.experiences[0])
    frozen = learner.notes()["frozen"]
    assert frozen
    for name, parameter in learner.model.named_parameters():
        same = torch.equal(parameter, before[name])
        assert same == (name.rpartition(".")[0] in frozen)


def test_a_restored_one_goes_on_with_the_same_bits(stream: Stream) -> None:
    whole, other = (strategy("dpo", stream, ratio=0.5) for _ in range(2))
    learn(whole, stream.experiences[0])
    other.restore(whole.state())
    for learner in (whole, other):
        learn(learner, stream.experiences[1])
    assert state_digest(whole.state()) == state_digest(other.state())
    assert measure(whole, stream, 2) == measure(other, stream, 2)


def test_without_rejected_answers_it_says_what_to_do() -> None:
    plain = instructions().stream(0)
    with pytest.raises(IncompatibleError, match=r"scenario\.preferences=true"):
        learn(strategy("dpo", plain), plain.experiences[0])


def test_the_strength_must_be_positive() -> None:
    _, config = strategies.load("dpo")
    with pytest.raises(ConfigError, match=r"strategy\.strength must be > 0, got 0"):
        config(strength=0)
    assert dpo.preference_loss(torch.zeros(2), torch.zeros(2), 0.5).item() == pytest.approx(0.6931, abs=1e-4)
