"""Llama's architecture at small sizes, and tokenizers of few words: what the embedded language models are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clbench.errors import ConfigError

SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")

Shapes = Mapping[int, tuple[int, int, int]]
"""Blocks, heads and feed-forward width by width."""


def llama(name: str, shapes: Shapes, width: int, vocabulary: int, context: int, tied: bool) -> Any:
    """A randomly initialised network: RMS norms, rotary positions, gated feed-forward layers, no biases.

    Args:
        name: of the model, for messages.
        shapes: that it comes in.
        width: one of them.
        vocabulary: tokens, `SPECIAL` among them.
        context: most tokens that it is asked to look at.
        tied: one matrix for embedding and output.

    Raises:
        ConfigError: no such width.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    if width not in shapes:
        raise ConfigError(f"model.width of {name} must be one of {', '.join(map(str, shapes))}, got {width}")
    blocks, heads, inner = shapes[width]
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            intermediate_size=inner,
            num_hidden_layers=blocks,
            num_attention_heads=heads,
            max_position_embeddings=context,
            tie_word_embeddings=tied,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        )
    )


def closed_tokenizer(words: Sequence[str], context: int, characters: bool) -> Any:
    """One token per word, or per character; what is not among ``words`` is unknown."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    numbers = {token: number for number, token in enumerate((*SPECIAL, *words))}
    made = Tokenizer(models.WordLevel(numbers, unk_token="<unk>"))
    if characters:
        made.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
        made.decoder = decoders.Fuse()
    else:
        made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    pad, bos, eos, unknown = SPECIAL
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token=pad, bos_token=bos, eos_token=eos, unk_token=unknown, model_max_length=context
    )
