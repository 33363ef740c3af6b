"""Edits as rows of token ids."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from clbench.edits.edits import Edit
from clbench.table import Source, Table
from clbench.texts.corpora import TextExample
from clbench.texts.prompts import Rows


def example_of(prompt: str, answer: str, rows: Rows) -> TextExample:
    """A prompt and an answer that is parted from it by a space."""
    space = "" if rows.words.spaces_itself or answer.startswith(" ") else " "
    return TextExample("", prompt, (space + answer,))


def table_of(
    rows: Rows, edits: Sequence[Edit], arrivals: Tensor, device: torch.device, places: Sequence[int] | None = None
) -> Table:
    """Rows of edits: the columns of `clbench.texts.tokens`, ``label`` and ``task`` (the experience), and ``subject``.

    ``subject`` (N,) int64 is the place of the last token of the subject in the row; -1 where it does not stand there.
    ``places`` become the column ``example``.
    """
    examples = [example_of(edit.prompt, edit.target, rows) for edit in edits]
    made = rows.columns(examples, ["edits"] * len(examples))
    made |= {"label": arrivals.clone(), "task": arrivals.clone()}
    ends = made["prompt"].tolist()
    made["subject"] = torch.tensor([_last_token(rows, edit, end) for edit, end in zip(edits, ends, strict=True)])
    if places is not None:
        made["example"] = torch.tensor(list(places))
    return Table(Source(made, device))


def _last_token(rows: Rows, edit: Edit, end: int) -> int:
    """Where the last token of the subject stands in its row, whose prompt ends at ``end``; -1 where it does not."""
    at = rows.prompt("", edit.prompt).find(edit.subject) if edit.subject else -1
    if at < 0:
        return -1
    starts = rows.words.starts(rows.prompt("", edit.prompt))
    inside = [place for place, start in enumerate(starts) if start < at + len(edit.subject)]
    place = end - len(starts) + inside[-1]  # counted from the end: a prompt that is too long loses its beginning
    return place if place >= len(rows.words.start) else -1
