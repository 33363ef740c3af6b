"""From questions and answers in words to rows of token ids.

A row is ``BOS prompt answer EOS`` (`clbench.texts.tokens`). Where the prompt is too long, its input loses its
beginning: instruction and template stay whole wherever they fit, and so does the end of the input, where the question
mostly stands. An answer that is too long loses its end and EOS with it, so that nobody learns to stop there. Rows that
lost something are counted.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

import torch

from clbench.errors import IncompatibleError
from clbench.models.tokenizer import Tokenizer
from clbench.table import Batch, Source
from clbench.texts.corpora import TextExample
from clbench.texts.tokens import REJECTED, REJECTED_LENGTH, columns


class Shorten(Enum):
    """What a prompt that is too long loses."""

    INPUT = "input"  # the beginning of its input; its own beginning where instruction and template alone are too long
    PROMPT = "prompt"  # its beginning, the instruction where that comes first
    NOTHING = "nothing"  # nothing: it is an error, as is an answer that is too long


@dataclass(frozen=True)
class Rows:
    """From examples to token ids.

    Attributes:
        words: of the model.
        template: what a prompt is made of.
        chat: put the prompt into the tokenizer's chat template.
        shorten: what a prompt that is too long loses.
        longest: tokens of a row.
        max_answer: tokens of an answer, EOS included.
        instructions: numbers of the instructions that have been met, by their texts.
        shortened: how many rows have lost something, by the names of their groups.
    """

    words: Tokenizer
    template: str
    chat: bool
    shorten: Shorten
    longest: int
    max_answer: int
    instructions: dict[str, int] = field(default_factory=dict)
    shortened: Counter[str] = field(default_factory=Counter)

    @property
    def room(self) -> int:
        """Tokens that a prompt may have."""
        return self.longest - self.max_answer - len(self.words.start)

    def prompt(self, instruction: str, input: str) -> str:
        """What a model is asked, in words."""
        text = self.template.format(instruction=instruction, input=input)
        return self.words.chat(text) if self.chat else text

    def source(
        self,
        groups: Sequence[tuple[str, Sequence[TextExample]]],
        device: torch.device,
        kept: int | None = None,
        numbered: bool = False,
    ) -> Source:
        """The examples of named groups, one group after another; column ``label`` counts the groups.

        Args:
            groups: names, for messages and counts, and examples.
            device: where the rows are.
            kept: of each group, its first ones; None: all.
            numbered: tell each row's place among all examples, kept or not, in the column ``example``.

        Raises:
            IncompatibleError: a row is too long, and none may lose anything.
        """
        taken = [(name, examples[:kept]) for name, examples in groups]
        made = self.columns(
            [example for _, examples in taken for example in examples],
            [name for name, examples in taken for _ in examples],
        )
        made["label"] = torch.tensor([label for label, (_, examples) in enumerate(taken) for _ in examples])
        if numbered:
            starts = [0, *itertools.accumulate(len(examples) for _, examples in groups)]
            places = [
                start + i for start, (_, examples) in zip(starts, taken, strict=False) for i in range(len(examples))
            ]
            made["example"] = torch.tensor(places)
        return Source(made, device)

    def columns(self, examples: Sequence[TextExample], names: Sequence[str]) -> Batch:
        """Columns of `clbench.texts.tokens`, and ``instruction``, the number of each row's."""
        prompts = self.words.encode([self.prompt(example.instruction, example.input) for example in examples])
        answers = self.words.encode([example.references[0] for example in examples])
        rows = [self._row(*row) for row in zip(examples, names, prompts, answers, strict=True)]
        made = columns([prompt for prompt, _ in rows], [answer for _, answer in rows], self.words.pad)
        if examples and all(example.rejected is not None for example in examples):
            others = self.words.encode([str(example.rejected) for example in examples])
            cut = [[*answer[: self.max_answer - 1], self.words.eos] for answer in others]
            refused = columns([prompt for prompt, _ in rows], cut, self.words.pad)
            made |= {REJECTED: refused["tokens"], REJECTED_LENGTH: refused["length"]}
        numbers = [self.instructions.setdefault(e.instruction, len(self.instructions)) for e in examples]
        return {**made, "instruction": torch.tensor(numbers, dtype=torch.int64)}

    def texts(self, texts: Sequence[str], longest: int) -> Batch:
        """Columns of plain texts, each cut into rows of at most ``longest`` tokens.

        A row's prompt is BOS, or its first token where the tokenizer has none; all that follows counts as its answer.
        """
        start = self.words.start
        size = longest - len(start)
        pieces = [ids[i : i + size] for ids in self.words.encode(texts) for i in range(0, len(ids), size)]
        rows = [(start or piece[:1], piece if start else piece[1:]) for piece in pieces]
        rows = [(prompt, answer) for prompt, answer in rows if answer]
        return columns([prompt for prompt, _ in rows], [answer for _, answer in rows], self.words.pad)

    def _row(
        self, example: TextExample, name: str, prompt: list[int], answer: list[int]
    ) -> tuple[list[int], list[int]]:
        answer = [*answer, self.words.eos]
        if len(prompt) > self.room or len(answer) > self.max_answer:
            if self.shorten is Shorten.NOTHING:
                raise IncompatibleError(
                    f"a row of {name} has {len(prompt)} tokens of prompt and {len(answer)} of answer; there is room "
                    f"for {self.room} and {self.max_answer}: raise scenario.longest or scenario.max_answer, or let "
                    "rows be cut with scenario.shorten=input"
                )
            self.shortened[name] += 1
            prompt = self._fitted(example, prompt)
        asked = [*self.words.start, *prompt]
        if not asked:
            raise IncompatibleError(f"a prompt of task {name} is empty, so nothing is asked; see scenario.template")
        return asked, answer[: self.max_answer]

    def _fitted(self, example: TextExample, prompt: list[int]) -> list[int]:
        """As much of a prompt as there is room for."""
        whole, left = prompt, example.input
        while self.shorten is Shorten.INPUT and len(prompt) > self.room and left:
            starts = self.words.starts(left)
            excess = len(prompt) - self.room
            # Dropping a text's first tokens can change how the rest is cut into tokens: look again.
            left = left[max(1, starts[excess]) :] if excess < len(starts) else ""
            prompt = self.words.encode([self.prompt(example.instruction, left)])[0]
        return prompt if len(prompt) <= self.room else whole[-self.room :]
