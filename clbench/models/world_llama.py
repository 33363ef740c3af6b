"""A small language model of Llama's architecture that reads the words of `clbench.edits.world`.

Width 96 gives 4 blocks of 4 heads and 0.46 million parameters, width 192 gives 1.8 million. Embedding and output share
one matrix.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clbench.edits import world
from clbench.models.llama import SPECIAL, closed_tokenizer, llama

NAME = "world_llama"
WIDTH = 96
CONTEXT = 64  # tokens
SHAPES = {96: (4, 4, 256), 192: (4, 4, 512)}

WEIGHTS = Path(__file__).with_name("pretrained_world_llama")
"""The folder of weights that were trained on the facts and skills of `clbench.edits.world`."""


def network(width: int) -> Any:
    """A randomly initialised network.

    Raises:
        ConfigError: no such width.
    """
    return llama(NAME, SHAPES, width, len(SPECIAL) + len(world.vocabulary()), CONTEXT, tied=True)


def tokenizer() -> Any:
    """One token per word; what the world has no word for is unknown."""
    return closed_tokenizer(world.vocabulary(), CONTEXT, characters=False)
