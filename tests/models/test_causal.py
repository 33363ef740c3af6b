from __future__ import annotations

import copy
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from clbench.models.causal import CausalModel
from clbench.models.config import AdapterConfig, ModelConfig
from clbench.models.language import build_causal
from clbench.seeding import isolated
from clbench.table import Batch
from clbench.texts.tokens import columns, without_answers
from tests.language import BOS, EOS, PAD, VOCABULARY, folder, network

KINDS = ["llama", "gpt2", "qwen2", "plain"]
PROMPTS = [[BOS, 5, 6, 7, 8], [BOS, 30], [BOS, 9, 10, 11], [BOS, 12, 40, 3, 6, 6, 7]]
ANSWERS = [[8, 9, EOS], [EOS], [20, 21, 22, 23, EOS], [5, EOS]]
NEW = 6


class Plain(nn.Module):
    """A network that cannot be asked for its last logits only."""

    def __init__(self, whole: Any) -> None:
        super().__init__()
        self.whole, self.config = whole, whole.config

    def forward(self, input_ids: Tensor, use_cache: bool = False) -> Any:
        """Logits (N, L, V)."""
        return SimpleNamespace(logits=self.whole(input_ids=input_ids, use_cache=use_cache).logits)

    def generate(self, **options: Any) -> Any:
        """What the whole network generates."""
        return self.whole.generate(**options)


def model(kind: str = "llama") -> CausalModel:
    made = Plain(network("llama")) if kind == "plain" else network(kind)
    return CausalModel(made, PAD, EOS, NEW).eval()


def batch(extra: int = 0) -> Batch:
    made = {name: column.long() for name, column in columns(PROMPTS, ANSWERS, PAD).items()}
    return {**made, "tokens": nn.functional.pad(made["tokens"], (0, extra), value=PAD)}


def log_probabilities(net: Any, tokens: list[int]) -> Tensor:
    """Of what follows each token of one row alone, (L, V) float64."""
    whole = net.whole if isinstance(net, Plain) else net
    doubled = copy.deepcopy(whole).double()
    with torch.no_grad():
        return torch.log_softmax(doubled(input_ids=torch.tensor([tokens])).logits[0], dim=1)


def by_hand(net: Any) -> list[list[float]]:
    """Log-likelihoods of every token of each answer."""
    found = []
    for prompt, answer in zip(PROMPTS, ANSWERS, strict=True):
        told = log_probabilities(net, [*prompt, *answer])
        found.append([float(told[len(prompt) - 1 + i, token]) for i, token in enumerate(answer)])
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_the_cross_entropy_of_the_answers_alone(kind: str) -> None:
    asked = model(kind)
    told = [value for row in by_hand(asked.network) for value in row]
    wanted = -math.fsum(told) / len(told)
    assert asked.loss(batch()).item() == pytest.approx(wanted, rel=1e-5)
    assert asked(batch()).item() == pytest.approx(wanted, rel=1e-5)  # as functional transforms call it
    logits = asked.all_logits(batch())
    assert logits.shape == (len(told), VOCABULARY)
    assert logits.dtype == torch.float32
    assert asked.new_cross_entropy(logits, batch(), 3).item() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_likelihoods_are_sums_of_log_probabilities_over_each_answer(kind: str) -> None:
    asked = model(kind)
    likelihoods, counts = asked.log_likelihoods(batch())
    assert likelihoods.tolist() == pytest.approx([math.fsum(row) for row in by_hand(asked.network)], rel=1e-5)
    assert counts.tolist() == [len(answer) for answer in ANSWERS]


@pytest.mark.parametrize("kind", KINDS)
def test_padding_on_the_right_changes_nothing(kind: str) -> None:
    asked = model(kind)
    torch.testing.assert_close(asked.all_logits(batch(5)), asked.all_logits(batch()), atol=1e-5, rtol=1e-5)
    padded, lengths = asked.log_likelihoods(batch(5))
    torch.testing.assert_close(padded, asked.log_likelihoods(batch())[0], atol=1e-4, rtol=1e-5)
    assert lengths.tolist() == [len(answer) for answer in ANSWERS]


def test_a_row_without_a_prompt_is_learnt_from_its_second_token_on() -> None:
    asked = model()
    row = {name: column.long() for name, column in columns([[]], [[5, 6, EOS]], PAD).items()}
    told = log_probabilities(asked.network, [5, 6, EOS])
    assert asked.loss(row).item() == pytest.approx(-float(told[0, 6] + told[1, EOS]) / 2, rel=1e-5)


def naive_greedy(net: Any, prompt: list[int]) -> list[int]:
    """One row alone, no padding, no cache: all is computed anew for each token."""
    tokens = list(prompt)
    while len(tokens) < len(prompt) + NEW:
        tokens.append(int(log_probabilities(net, tokens)[-1].argmax()))
        if tokens[-1] == EOS:
            break
    return tokens[len(prompt) :]


@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_those_of_a_loop_without_cache_row_by_row(kind: str) -> None:
    asked = model(kind)
    if kind in ("llama", "plain"):  # where no row ends by itself, let one
        end = naive_greedy(asked.network, PROMPTS[0])[2]
        head = (asked.network.whole if kind == "plain" else asked.network).lm_head.weight
        with torch.no_grad():
            head[[EOS, end]] = head[[end, EOS]]
    wanted = [naive_greedy(asked.network, prompt) for prompt in PROMPTS]
    made = asked.predict(without_answers(batch(), PAD))
    assert made.dtype == torch.int64
    width = max(map(len, wanted))
    assert made.tolist() == [[*row, *[PAD] * (width - len(row))] for row in wanted]
    if kind in ("llama", "plain"):
        assert any(EOS in row[:-1] for row in made.tolist()), "no row was padded behind its end"


def test_what_published_weights_say_of_generation_is_left_out() -> None:
    plain, bent = network(), network()
    bent.generation_config.repetition_penalty = 9.0
    bent.generation_config.do_sample = True
    bent.generation_config.suppress_tokens = list(range(5, 40))
    asked = [CausalModel(net, PAD, EOS, NEW).eval().predict(batch()).tolist() for net in (plain, bent)]
    assert asked[0] == asked[1]


def test_features_are_the_last_states_of_the_prompts() -> None:
    asked = model()
    features = asked.features(batch())
    for row, prompt in zip(features, PROMPTS, strict=True):
        alone = asked.network.model(input_ids=torch.tensor([prompt])).last_hidden_state[0, -1]
        torch.testing.assert_close(row, alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen2"])
def test_bfloat16_gives_about_the_same_loss_and_learns(kind: str) -> None:
    plain = model(kind)
    half = CausalModel(network(kind).to(torch.bfloat16), PAD, EOS, NEW)
    assert half.all_logits(batch()).dtype == torch.float32
    loss = half.loss(batch())
    assert loss.item() == pytest.approx(plain.loss(batch()).item(), rel=0.05)
    loss.backward()
    assert all(bool(p.grad.isfinite().all()) for p in half.parameters() if p.grad is not None)
    assert half.predict(batch()).shape[0] == len(PROMPTS)


@pytest.mark.parametrize("rank", [0, 4])
def test_gradient_checkpointing_gives_the_same_loss_and_gradients(rank: int, tmp_path: Path) -> None:
    found = []
    for saves in (False, True):
        config = ModelConfig(
            str(folder(tmp_path / "model")), adapter=AdapterConfig(rank=rank), gradient_checkpointing=saves
        )
        with isolated(0, "adapters"):
            asked = build_causal(config, NEW)
        assert any(getattr(module, "gradient_checkpointing", False) for module in asked.modules()) is saves
        loss = asked.train().loss(batch())
        loss.backward()
        found.append({name: p.grad for name, p in asked.named_parameters() if p.grad is not None})
        found[-1]["loss"] = loss.detach()
    assert found[0].keys() == found[1].keys()
    assert len(found[0]) > 10
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, atol=1e-6, rtol=1e-5)
