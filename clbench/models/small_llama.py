"""A small language model of Llama's architecture, and the characters that it reads.

RMS norms, rotary positions, gated feed-forward layers, no biases, an output matrix of its own. Width 64 gives 4 blocks
of 4 heads and 0.21 million parameters, width 192 gives 6 blocks of 6 heads and 2.7 million.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clbench.errors import ConfigError

NAME = "small_llama"
ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789 :;=?>+-#|,.!"
SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")
CONTEXT = 128  # tokens
SHAPES = {64: (4, 4, 176), 192: (6, 6, 512)}
"""Blocks, heads and feed-forward width by width."""

WEIGHTS = Path(__file__).with_name("pretrained_llama")
"""The embedded model's folder."""


def network(width: int) -> Any:
    """A randomly initialised network.

    Raises:
        ConfigError: no such width.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    if width not in SHAPES:
        raise ConfigError(f"model.width of small_llama must be one of {', '.join(map(str, SHAPES))}, got {width}")
    blocks, heads, inner = SHAPES[width]
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(SPECIAL) + len(ALPHABET),
            hidden_size=width,
            intermediate_size=inner,
            num_hidden_layers=blocks,
            num_attention_heads=heads,
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=False,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        )
    )


def tokenizer() -> Any:
    """One token per character; what is not in `ALPHABET` is unknown."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: number for number, token in enumerate((*SPECIAL, *ALPHABET))}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    made.decoder = decoders.Fuse()
    pad, bos, eos, unknown = SPECIAL
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token=pad, bos_token=bos, eos_token=eos, unk_token=unknown, model_max_length=CONTEXT
    )
