"""Language models of a few thousand parameters for tests, built from configs; nothing is loaded."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from clbench.models import small_llama
from clbench.models.language import quiet
from clbench.models.llama import SPECIAL
from clbench.seeding import isolated

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
