"""Strategies that know neither images nor labels nor heads learn a causal language model as it comes."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from clbench.digest import state_digest
from clbench.engine import learn
from clbench.record import Setting
from clbench.scenario import Experience
from clbench.seeding import isolated
from clbench.strategy import Problem, strategies
from clbench.table import Batch, Source, Table

NAMES = (
    "agem",
    "coin",
    "fixed_ema",
    "gem",
    "half_reset",
    "hft",
    "l2sp",
    "naive",
    "replay",
    "task_arithmetic",
    "wise_ft",
)
SYMBOLS, LENGTH, ROWS = 16, 8, 48


class Writer(nn.Module):
    """A decoder of a few thousand parameters, its embeddings tied to its outputs."""

    outputs = 0

    def __init__(self) -> None:
        super().__init__()
        sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
        special = {f"{word}_token_id": None for word in ("bos", "eos", "pad")}
        self.network = LlamaForCausalLM(LlamaConfig(vocab_size=SYMBOLS, tie_word_embeddings=True, **sizes, **special))

    def grow(self, outputs: int) -> None:
        self.outputs = outputs

    def loss(self, batch: Batch) -> Tensor:
        loss: Tensor = self.network(input_ids=batch["token"], labels=batch["token"]).loss
        return loss


class AsStored:
    def train(self, batch: Batch, generator: torch.Generator) -> Batch:
        return batch

    def evaluate(self, batch: Batch) -> Batch:
        return batch


def experiences() -> list[Experience]:
    """Counting upwards modulo the number of symbols, by another step in each."""
    task = torch.arange(3).repeat_interleave(ROWS)
    starts = torch.arange(3 * ROWS)
    token = (starts[:, None] + (2 * task[:, None] + 1) * torch.arange(LENGTH)) % SYMBOLS
    rows = Table(Source({"token": token, "label": task, "task": task}))
    parts = [rows.select(task == index) for index in range(3)]
    return [Experience(index, f"steps of {2 * index + 1}", part, part, (), 0) for index, part in enumerate(parts)]


def made(name: str, pretrained: bool = False) -> Any:
    def model() -> Any:
        with isolated(0, "initialise"):
            return Writer()

    transform: Any = AsStored()
    problem = Problem(model, transform, Setting.TASK_INCREMENTAL, torch.device("cpu"), 0, pretrained)
    _, config = strategies.load(name)
    own = config(epochs=10, lr=0.2, batch_size=16, weight_decay=0.0, clip=1.0)
    assert strategies.load(name)[0].skip(own, problem) is None
    return strategies.build(own, problem)


@torch.no_grad()
def loss_on(learner: Any, experience: Experience) -> float:
    return float(learner.model.loss(experience.train.source.take(experience.train.rows)))


@pytest.mark.parametrize("pretrained", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_it_learns_to_continue_sequences_and_goes_on_with_the_same_bits(name: str, pretrained: bool) -> None:
    learner, other = made(name, pretrained), made(name, pretrained)
    stream = experiences()
    before = loss_on(learner, stream[0])
    for experience in stream[:2]:
        learn(learner, experience)
        if experience.index == 0 and not pretrained:
            assert loss_on(learner, stream[0]) < 0.8 * before
    other.restore(copy.deepcopy(learner.state()))
    for each in (learner, other):
        learn(each, stream[2])
    assert state_digest(learner.state()) == state_digest(other.state())
    assert all(parameter.isfinite().all() for parameter in learner.model.parameters())
    tied = learner.model.network.get_output_embeddings().weight
    assert tied is learner.model.network.get_input_embeddings().weight


def test_constraints_on_gradients_hold_what_was_learnt() -> None:
    losses = []
    for name in ("gem", "naive"):
        learner, stream = made(name), experiences()
        for experience in stream[:2]:
            learn(learner, experience)
        losses.append(loss_on(learner, stream[0]))
    assert losses[0] < 0.8 * losses[1]
