"""Language models of a few thousand parameters for tests, built from configs; nothing is loaded."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from clbench.finetune import Optimizer, Schedule
from clbench.models import small_llama
from clbench.models.causal import CausalModel
from clbench.models.language import quiet
from clbench.models.llama import SPECIAL
from clbench.record import Setting
from clbench.scenario import Experience
from clbench.seeding import isolated
from clbench.strategy import Problem, strategies
from clbench.table import Source, Table
from clbench.texts.tokens import TokenTransform, columns

PAD, BOS, EOS = 0, 1, 2
VOCABULARY = len(SPECIAL) + len(small_llama.ALPHABET)


def network(kind: str = "llama", seed: int = 0) -> Any:
    """A network of transformers with large random weights, so that its likeliest tokens are no ties."""
    import transformers

    sizes: dict[str, Any] = {"vocab_size": VOCABULARY, "pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": EOS}
    common: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 48,
    }
    made: Any
    with isolated(seed, "network"):
        if kind == "gpt2":
            config = transformers.GPT2Config(n_embd=32, n_layer=2, n_head=2, n_positions=64, **sizes)
            made = transformers.GPT2LMHeadModel(config)
        elif kind == "qwen2":
            made = transformers.Qwen2ForCausalLM(
                transformers.Qwen2Config(num_key_value_heads=1, tie_word_embeddings=True, **common, **sizes)
            )
        else:
            made = transformers.LlamaForCausalLM(transformers.LlamaConfig(**common, **sizes))
        for parameter in made.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.2)
    return made.eval()


def deep_network(kind: str, blocks: int) -> Any:
    """A network of many blocks, as narrow as can be."""
    import transformers

    sizes: dict[str, Any] = {"vocab_size": 11, "num_hidden_layers": blocks, "hidden_size": 4, "num_attention_heads": 2}
    if kind == "gpt2":
        config = transformers.GPT2Config(vocab_size=11, n_embd=4, n_layer=blocks, n_head=2, n_positions=8)
        return transformers.GPT2LMHeadModel(config)
    configs = {
        "llama": (transformers.LlamaForCausalLM, transformers.LlamaConfig),
        "mistral": (transformers.MistralForCausalLM, transformers.MistralConfig),
        "qwen2": (transformers.Qwen2ForCausalLM, transformers.Qwen2Config),
    }
    model, config_of = configs[kind]
    return model(config_of(**sizes, intermediate_size=6, num_key_value_heads=1))


PROBLEM_ROWS = ([5, 6], [7, 8, 9]), ([10, 11, 12], [13]), ([14], [15, 16]), ([17, 5], [6, 6]), ([9], [8, 7, 12])
"""Prompts and targets of edits, in tokens."""


def edits_to_learn(sizes: Sequence[int] = (5,), pad: int = PAD) -> list[Experience]:
    """Experiences of so many edits each: BOS, prompt, target, EOS; all rows in one source."""
    asked = [PROBLEM_ROWS[i % 5] for i in range(sum(sizes))]
    prompts = [[BOS, *prompt, 18 + i // 5] for i, (prompt, _) in enumerate(asked)]
    batch = columns(prompts, [[*target, EOS] for _, target in asked], pad)
    batch["label"] = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    tables = [Table(Source(batch), rows) for rows in torch.arange(len(asked)).split(list(sizes))]
    return [Experience(i, f"edits {i}", table, table, (i,), i + 1) for i, table in enumerate(tables)]


def editor(name: str, made: Any = None, pad: int = PAD, seed: int = 0, **values: Any) -> Any:
    """A strategy that edits a network of this file; its class depends on the name."""
    config = strategies.load(name)[1]
    usual: dict[str, Any] = {"lr": 1e-2, "weight_decay": 0.0, "batch_size": 10, "epochs": 3}
    usual |= {"optimizer": Optimizer.ADAM, "schedule": Schedule.CONSTANT}
    shared = copy.deepcopy(network() if made is None else made)
    problem = Problem(
        lambda: CausalModel(copy.deepcopy(shared), pad, EOS, 6),
        TokenTransform("", "", 64),
        Setting.EDITING,
        torch.device("cpu"),
        seed,
        pretrained=True,
    )
    return strategies.build(config(**usual | values), problem)


def folder(path: Path, kind: str = "llama", seed: int = 0) -> Path:
    """`network` and the character tokenizer in a folder that transformers loads."""
    with quiet():
        network(kind, seed).save_pretrained(path)
        small_llama.tokenizer().save_pretrained(path)
    return path


class BigramNetwork(nn.Module):
    """A network in the form of transformers': the next token depends on this one alone."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        draws = torch.Generator().manual_seed(0)
        self.scores = nn.Parameter(torch.randn(tokens, tokens, generator=draws))
        self.config = SimpleNamespace(pad_token_id=None)

    def forward(self, input_ids: Tensor, use_cache: bool = False) -> Any:
        """Logits (N, L, V)."""
        return SimpleNamespace(logits=self.scores[input_ids])
