"""A small language model of Llama's architecture, and the characters that it reads.

Width 64 gives 4 blocks of 4 heads and 0.21 million parameters, width 192 gives 6 blocks of 6 heads and 2.7 million. The
output has a matrix of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clbench.models.llama import SPECIAL, closed_tokenizer, llama

NAME = "small_llama"
WIDTH = 64
ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789 :;=?>+-#|,.!"
CONTEXT = 128  # tokens
SHAPES = {64: (4, 4, 176), 192: (6, 6, 512)}

WEIGHTS = Path(__file__).with_name("pretrained_llama")
"""The folder of weights that were trained on `clbench.scenarios.instructions`."""


def network(width: int) -> Any:
    """A randomly initialised network.

    Raises:
        ConfigError: no such width.
    """
    return llama(NAME, SHAPES, width, len(SPECIAL) + len(ALPHABET), CONTEXT, tied=False)


def tokenizer() -> Any:
    """One token per character; what is not in `ALPHABET` is unknown."""
    return closed_tokenizer(ALPHABET, CONTEXT, characters=True)
