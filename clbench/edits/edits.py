"""Knowledge edits: what a model is to say from now on, and what must follow from it or stay as it is.

Files are lists of JSON objects (or one object per line), in the field names of the released zsRE, CounterFact and
WikiBigEdit files. Only a prompt and a target are needed; what else a record lacks is not measured for it.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from clbench.errors import DataError
from clbench.texts.rows import Row, read_rows


@dataclass(frozen=True)
class Edit:
    """One edit.

    Attributes:
        prompt: as the model is trained on it and asked.
        target: what it is to answer from now on.
        subject: whom or what the prompt is about, as it stands in it; empty where unknown.
        paraphrases: other wordings, which are never trained on.
        prefixed: the prompt after idle words.
        old: what was right before; empty where unknown.
        near: prompts whose answers must stay though they are about something close.
    """

    prompt: str
    target: str
    subject: str = ""
    paraphrases: tuple[str, ...] = ()
    prefixed: tuple[str, ...] = ()
    old: str = ""
    near: tuple[str, ...] = ()

    @property
    def group(self) -> str:
        """What decides in which half an edit is: all edits of a subject are in the same."""
        return self.subject or self.prompt

    @property
    def prompts(self) -> tuple[str, ...]:
        """Every question about it, in all wordings; not those about something close."""
        return (self.prompt, *self.paraphrases, *self.prefixed)


FIELDS = {
    "prompt": ("prompt", "src"),
    "target": ("target_new", "alt"),
    "subject": ("subject",),
    "paraphrase": ("rephrase_prompt", "rephrase"),
    "old": ("ground_truth", "pred"),
    "near": ("locality_prompt", "loc"),
}
"""What a field may be called: in CounterFact and WikiBigEdit first, in zsRE second."""

IDLE = (
    *("The weather was mild that day.", "He closed the door behind him.", "It took longer than expected."),
    *("They had met once before.", "Nobody had noticed the change.", "The train left on time."),
    *("A letter arrived in the morning.", "There was little left to say."),
)
"""Sentences that have nothing to do with any edit."""


def read_edits(path: Path) -> tuple[Edit, ...]:
    """The edits of one file, in its order.

    Raises:
        DataError: the file cannot be read, holds no edits, or a record lacks its prompt or its target.
    """
    rows = read_rows(path)
    if not rows:
        raise DataError(f"{path} holds no edits; a list of objects with prompt and target_new was expected")
    return tuple(_edit(row, number) for number, row in enumerate(rows))


def _edit(row: Row, number: int) -> Edit:
    prompt, target = (_text(row, name) for name in ("prompt", "target"))
    for name, value in (("prompt", prompt), ("target", target)):
        if not value.strip():
            wanted = " or ".join(FIELDS[name])
            raise DataError(f"{row.place}: an edit needs a {name} (field {wanted}); give one or remove the record")
    paraphrase, near = _text(row, "paraphrase"), _text(row, "near")
    return Edit(
        prompt=prompt,
        target=target,
        subject=_text(row, "subject"),
        paraphrases=(paraphrase,) if paraphrase else (),
        prefixed=(f"{IDLE[number % len(IDLE)]} {prompt}",),
        old=_text(row, "old"),
        near=(near,) if near else (),
    )


def _text(row: Row, name: str) -> str:
    for field in FIELDS[name]:
        if row.values.get(field) is not None:
            return row.text(field)
    return ""


def without(texts: Sequence[str], prompts: Set[str]) -> list[str]:
    """The texts in which none of the prompts stands."""
    return [text for text in texts if not any(prompt in text for prompt in prompts)]


@dataclass(frozen=True)
class Faults:
    """What stands in a stream of edits and blurs what is measured on it.

    Attributes:
        repeated: edits that an earlier one has told already, prompt and target alike.
        contradicting: edits whose prompt an earlier one has with another target: both cannot hold.
        leaking: edits with a paraphrase that is the prompt of an edit, its own or another, and so is trained on.
    """

    repeated: int
    contradicting: int
    leaking: int


def faults_of(edits: Sequence[Edit]) -> Faults:
    """Count them, in the order of the stream."""
    told: dict[str, set[str]] = {}
    repeated = contradicting = 0
    for edit in edits:
        before = told.setdefault(edit.prompt, set())
        repeated += edit.target in before
        contradicting += bool(before - {edit.target})
        before.add(edit.target)
    leaking = sum(not told.keys().isdisjoint(edit.paraphrases) for edit in edits)
    return Faults(repeated, contradicting, leaking)
