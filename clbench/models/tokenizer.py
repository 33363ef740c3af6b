"""Tokenizers of transformers: from texts to token ids and back."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from typing import Any

from clbench.errors import CheckpointError, ConfigError


class Tokenizer:
    """What a language model reads and writes.

    Args:
        fast: a tokenizer of transformers with an EOS token.
        name: for messages.

    Attributes:
        eos: ends an answer.
        pad: fills rows; EOS where the tokenizer has none, which no loss ever sees.
        start: what a row begins with: BOS, or nothing.

    Raises:
        CheckpointError: it has no EOS token, so that no answer could end.
    """

    def __init__(self, fast: Any, name: str) -> None:
        self.fast, self.name = fast, name
        if fast.eos_token_id is None:
            raise CheckpointError(
                f"the tokenizer of {name} has no EOS token, so no answer could end; set eos_token in its "
                "tokenizer_config.json"
            )
        self.eos = int(fast.eos_token_id)
        self.pad = self.eos if fast.pad_token_id is None else int(fast.pad_token_id)
        self.start = [] if fast.bos_token_id is None else [int(fast.bos_token_id)]

    @property
    def size(self) -> int:
        """Tokens, the added ones too."""
        return len(self.fast)

    @functools.cached_property
    def digest(self) -> str:
        """sha256 of vocabulary and rules, in hexadecimal."""
        backend = getattr(self.fast, "backend_tokenizer", None)
        text = backend.to_str() if backend is not None else repr(sorted(self.fast.get_vocab().items()))
        return hashlib.sha256(str(text).encode()).hexdigest()

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, without special tokens."""
        return self._tokenized(texts)["input_ids"] if texts else []

    def starts(self, text: str) -> list[int]:
        """Where each token of a text begins, in characters.

        Raises:
            ConfigError: this tokenizer cannot tell.
        """
        if not self.fast.is_fast:
            raise ConfigError(
                f"the tokenizer of {self.name} does not tell where tokens begin, so inputs that are too long cannot "
                "be cut; cut prompts instead: scenario.shorten=prompt"
            )
        return [start for start, _ in self._tokenized([text], return_offsets_mapping=True)["offset_mapping"][0]]

    @functools.cached_property
    def spaces_itself(self) -> bool:
        """Whether two texts that are encoded apart are parted by a space when they are read together."""
        together, first, second = self.encode(["x y", "x", "y"])
        return together == [*first, *second]

    def decode(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """Texts of token ids, special tokens left out."""
        texts: list[str] = self.fast.batch_decode(rows, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return texts

    def chat(self, text: str) -> str:
        """A user's turn in the tokenizer's own chat template, up to where the answer begins.

        Raises:
            ConfigError: the tokenizer has none.
        """
        if not getattr(self.fast, "chat_template", None):
            raise ConfigError(f"the tokenizer of {self.name} has no chat template; leave scenario.chat out")
        turn = [{"role": "user", "content": text}]
        made: str = self.fast.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
        bos = self.fast.bos_token or ""
        return made.removeprefix(bos) if bos else made

    def _tokenized(self, texts: Sequence[str], **options: bool) -> dict[str, list[Any]]:
        # verbose: it would warn of texts that are longer than the model's context, which are cut afterwards
        made = self.fast(list(texts), add_special_tokens=False, return_attention_mask=False, verbose=False, **options)
        return dict(made)
