"""Texts as columns of a table, and what a causal language model takes of them.

A row is ``BOS prompt answer EOS``, padded on the right. Columns: ``tokens`` (N, L) int32; ``prompt`` (N,) int32, the
length of BOS and prompt; ``length`` (N,) int32, of the whole row. A row's answer, EOS included, is what is learnt: the
loss asks for nothing in the prompt. A row of plain text is one whose prompt is BOS alone. Where preferences are learnt,
``rejected_tokens`` (N, L) and ``rejected_length`` (N,) hold the same prompts with answers that are not preferred.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from clbench.augment import Shape, Transform
from clbench.table import Batch

REJECTED, REJECTED_LENGTH = "rejected_tokens", "rejected_length"
TOKENS = 1 << 16  # looked at together, padding included: a large model's keys and values for more fill a GPU


def columns(prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], pad: int) -> Batch:
    """Columns of rows whose token ids are given.

    Args:
        prompts: token ids of each row, BOS first.
        answers: token ids of each row, EOS last.
        pad: fills the end of the shorter rows.
    """
    lengths = [len(prompt) + len(answer) for prompt, answer in zip(prompts, answers, strict=True)]
    tokens = torch.full((len(lengths), max(lengths, default=0)), pad, dtype=torch.int32)
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        tokens[row, : lengths[row]] = torch.tensor([*prompt, *answer], dtype=torch.int32)
    starts = torch.tensor([len(prompt) for prompt in prompts], dtype=torch.int32)
    return {"tokens": tokens, "prompt": starts, "length": torch.tensor(lengths, dtype=torch.int32)}


def rejected(batch: Batch) -> Batch:
    """The same prompts with their rejected answers: columns ``tokens``, ``prompt`` and ``length``."""
    return {"tokens": batch[REJECTED], "prompt": batch["prompt"], "length": batch[REJECTED_LENGTH]}


def answered(batch: Batch) -> Tensor:
    """Which positions (N, L - 1) are followed by a token of the answer."""
    place = torch.arange(1, batch["tokens"].shape[1], device=batch["tokens"].device)
    return (place >= batch["prompt"][:, None]) & (place < batch["length"][:, None])


def without_answers(batch: Batch, pad: int) -> Batch:
    """The same rows up to the end of their prompts: what a learner is asked."""
    tokens, prompt = batch["tokens"], batch["prompt"]
    shown = torch.arange(tokens.shape[1], device=tokens.device) < prompt[:, None]
    return {**batch, "tokens": tokens.masked_fill(~shown, pad), "length": prompt}


def rows_at_once(columns: Mapping[str, Tensor], most: int) -> int:
    """Rows that are answered together: ``most``, fewer where rows are long texts."""
    width = columns["tokens"].shape[1] if "tokens" in columns else 1
    return max(1, min(most, TOKENS // max(width, 1)))


@dataclass(frozen=True)
class TokenTransform(Transform):
    """Cut a batch's padding to its longest row.

    Attributes:
        template: prompts were made from.
        tokenizer: digest of the vocabulary and its rules.
        longest: row that a model can take, in tokens.
        flip: false.
    """

    reads: ClassVar[str] = "tokens"
    template: str
    tokenizer: str
    longest: int
    flip: bool = False

    def train(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Nothing is augmented."""
        return self.evaluate(batch)

    def evaluate(self, batch: Batch) -> Batch:
        """Column ``tokens`` (N, L) int64, L the longest row; the other columns stay."""
        longest = int(batch["length"].max()) if len(batch["length"]) else 0
        return {**batch, "tokens": batch["tokens"][:, :longest].long()}

    def output_shape(self, stored: Shape) -> Shape:
        """As it is stored."""
        return stored
