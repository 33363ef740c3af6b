"""Instructions about letters and digits, eight tasks drawn by a program; nothing to download.

Each task is an instruction and an input, answered in a few characters: reverse, add, sort, count, shift, lookup, swap,
largest. The embedded language model (`clbench.models.small_llama`) was really trained before: on 120 facts and six
skills in formats of their own (``phase=pretraining``), then on those and the eight tasks together
(``phase=alignment``), so that it begins able, as an aligned language model does, and has something to lose. What no
experience trains is probed: ``facts``, ``skills``, and ``pretraining_answers``, the likelihood of answers in the
formats of pre-training.

An input that a checksum picks, one in ten, is shown in tests only: to no seed, and in neither phase before. The halves
of the two-phase protocol have four tasks each. The embedded model was aligned on all eight: alignment is the start that
every learner shares, not what is tuned. ``style=families`` ends instructions in one of two common phrases, so that
grouping instructions (strategy ``coin``) has likenesses to find.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from random import Random
from typing import Any, ClassVar

from clbench.probe import AnswerProbe, LikelihoodProbe, Probe
from clbench.scenario import scenarios
from clbench.seeding import derive
from clbench.space import LogUniform, searched
from clbench.table import Source
from clbench.texts.corpora import TextExample, TextTask
from clbench.texts.prompts import Rows
from clbench.texts.streams import TextAnswers, TextConfig, TextScenario

LETTERS = "abcdefghij"
TRAIN, TEST = 640, 50  # examples of each task
HELD_OUT = 10  # one input in so many is for tests only
FACTS = 120
FACT_SHARE = 3  # facts are drawn this much more often than a skill
PROBED = 50  # inputs of each skill

Drawn = tuple[str, str]
"""An input and its answer."""


class Phase(Enum):
    """Which training the stream is."""

    STREAM = "stream"  # the eight tasks, one after another
    PRETRAINING = "pretraining"  # facts and skills, all at once
    ALIGNMENT = "alignment"  # facts, skills and the eight tasks, all at once


class Style(Enum):
    """How instructions are worded."""

    PLAIN = "plain"
    FAMILIES = "families"  # with a phrase at the end that tasks of a kind share


@dataclass
class InstructionsConfig(TextConfig):
    """The shared fields, the phase and the style."""

    train_per_task: int | None = TRAIN  # training examples of each task; of the mix, in the phases before
    test_per_task: int | None = TEST  # test examples of each task
    template: str = "{instruction}{input}="  # what a prompt is made of
    max_answer: int = 7  # tokens of an answer, EOS included
    phase: Phase = Phase.STREAM  # which training the stream is
    style: Style = Style.PLAIN  # how instructions are worded
    preferences: bool = False  # bring a wrong answer along with each training example, for strategy dpo


def word(draws: Random, letters: str = LETTERS, length: int = 6) -> str:
    """Letters at random."""
    return "".join(draws.choices(letters, k=length))


def pairs(draws: Random, count: int) -> list[tuple[str, int]]:
    """Different letters, each with a digit."""
    return [(letter, draws.randrange(10)) for letter in draws.sample(LETTERS, count)]


def _reverse(draws: Random) -> Drawn:
    made = word(draws)
    return made, made[::-1]


def _add(draws: Random) -> Drawn:
    first, second = draws.randrange(10, 100), draws.randrange(10)
    return f"{first}+{second}", str(first + second)


def _sort(draws: Random) -> Drawn:
    made = word(draws)
    return made, "".join(sorted(made))


def _count(draws: Random) -> Drawn:
    made = word(draws, "abc")
    return made, str(made.count("a"))


def _shift(draws: Random) -> Drawn:
    made = word(draws)
    return made, "".join(chr(ord(letter) + 3) for letter in made)


def _lookup(draws: Random) -> Drawn:
    table = pairs(draws, 3)
    key, value = draws.choice(table)
    return ",".join(f"{k}{v}" for k, v in table) + f"?{key}", str(value) * 3


def _swap(draws: Random) -> Drawn:
    made = word(draws)
    return made, made[3:] + made[:3]


def _largest(draws: Random) -> Drawn:
    made = word(draws, "0123456789")
    return made, f"max{max(made)}"


TASKS: dict[str, tuple[str, str, Callable[[Random], Drawn]]] = {
    "reverse": ("reverse the word", "answer with letters", _reverse),
    "add": ("add numbers", "answer with number", _add),
    "sort": ("sort the letters", "answer with letters", _sort),
    "count": ("count of a", "", _count),
    "shift": ("shift each letter", "answer with letters", _shift),
    "lookup": ("find key", "answer with number", _lookup),
    "swap": ("swap halves", "answer with letters", _swap),
    "largest": ("largest digit", "", _largest),
}
"""Instruction, the phrase of its family, and what draws an input with its answer; in the listed order."""


def _copy(draws: Random) -> Drawn:
    made = word(draws)
    return f"copy {made}", made


def _next(draws: Random) -> Drawn:
    count = draws.randrange(1, 5)
    start = draws.randrange(ord("z") - ord("a") - count + 1) + ord("a")
    return f"next {chr(start)}{count}", "".join(chr(start + 1 + place) for place in range(count))


def _backwards(draws: Random) -> Drawn:
    made = word(draws, length=5)
    return f"{made} backwards", made[::-1]


def _ordered(draws: Random) -> Drawn:
    made = word(draws, length=5)
    return f"{made} ordered", "".join(sorted(made))


def _plus(draws: Random) -> Drawn:
    first, second = draws.randrange(100), draws.randrange(10)
    return f"{first} plus {second}", str(first + second)


def _at(draws: Random) -> Drawn:
    table = pairs(draws, 3)
    key, value = draws.choice(table)
    return " ".join(f"{k}{v}" for k, v in table) + f" at {key}", str(value)


SKILLS: dict[str, Callable[[Random], Drawn]] = {
    "copy": _copy,
    "next": _next,
    "backwards": _backwards,
    "ordered": _ordered,
    "plus": _plus,
    "at": _at,
}
"""What pre-training teaches beside facts, in formats of its own."""


def held_out(name: str, input: str) -> bool:
    """Whether an input is for tests only, whatever the seed."""
    return zlib.crc32(f"{name} {input}".encode()) % HELD_OUT == 0


def drawn(name: str, draw: Callable[[Random], Drawn], draws: Random, count: int) -> list[Drawn]:
    """Inputs for training, with their answers; some come twice."""
    found: list[Drawn] = []
    while len(found) < count:
        input, answer = draw(draws)
        if not held_out(name, input):
            found.append((input, answer))
    return found


def examined(name: str, draw: Callable[[Random], Drawn], draws: Random, count: int) -> list[Drawn]:
    """Different inputs for tests, with their answers; fewer where there are not so many."""
    found: dict[str, str] = {}
    for _ in range(200 * count):
        input, answer = draw(draws)
        if held_out(name, input):
            found.setdefault(input, answer)
        if len(found) == count:
            break
    return list(found.items())


def misled(answers: Sequence[str], draws: Random) -> list[str]:
    """For each answer one of the others that differs from it."""
    kinds = sorted(set(answers))
    return [draws.choice([kind for kind in kinds if kind != answer] or [""]) for answer in answers]


@functools.cache
def facts() -> tuple[TextExample, ...]:
    """Names of four letters, each with two letters that nothing but memory can tell."""
    draws = Random(0)
    names: dict[str, str] = {}
    while len(names) < FACTS:
        names[word(draws, "abcdefghijklmnopqrstuvwxyz", 4)] = word(draws, "abcdefghijklmnopqrstuvwxyz", 2)
    return tuple(TextExample("", f"fact {name}", (answer,)) for name, answer in names.items())


def instruction(name: str, style: Style) -> str:
    """A task's instruction in a style."""
    text, phrase, _ = TASKS[name]
    return f"{text}, {phrase}: " if phrase and style is Style.FAMILIES else f"{text}: "


def examples(found: Sequence[Drawn], instruction: str = "") -> tuple[TextExample, ...]:
    """Examples under one instruction; under none, those of a skill, which asks in a format of its own."""
    return tuple(TextExample(instruction, input, (answer,)) for input, answer in found)


def task_examples(
    name: str, style: Style, seed: int, train: int, test: int
) -> tuple[tuple[TextExample, ...], tuple[TextExample, ...]]:
    """So many training examples of a task, drawn from the seed, and test examples, the same for every seed."""
    _, _, draw = TASKS[name]
    shown = drawn(name, draw, Random(derive(seed, "train", name)), train)
    asked = examined(name, draw, Random(derive(0, "test", name)), test)
    return examples(shown, instruction(name, style)), examples(asked, instruction(name, style))


@scenarios.register(InstructionsConfig)
class Instructions(TextScenario):
    """Eight tasks on letters and digits."""

    config: InstructionsConfig
    training: ClassVar[dict[str, Any]] = {
        **TextScenario.training,
        "lr": searched(1.5e-3, LogUniform(1e-4, 1e-2)),
    }

    def names(self) -> list[str]:
        """The eight tasks, or all at once in the phases before."""
        return list(TASKS) if self.config.phase is Phase.STREAM else [self.config.phase.value]

    def tasks(self, seed: int) -> tuple[TextTask, ...]:
        """Training examples drawn from the seed; test examples are the same for every seed."""
        config = self.config
        if config.phase is not Phase.STREAM:
            return (self._mix(seed),)
        counts = config.train_per_task or TRAIN, config.test_per_task or TEST
        return tuple(self._task(name, seed, *task_examples(name, config.style, seed, *counts)) for name in TASKS)

    def _task(self, name: str, seed: int, train: tuple[TextExample, ...], test: tuple[TextExample, ...]) -> TextTask:
        if self.config.preferences:
            wrong = misled([example.references[0] for example in train], Random(derive(seed, "rejected", name)))
            train = tuple(replace(e, rejected=other) for e, other in zip(train, wrong, strict=True))
        return TextTask(name, "exact_match", train, test)

    def _mix(self, seed: int) -> TextTask:
        """Facts and skills and, in the alignment, the tasks in both styles: each kind equally often, facts thrice."""
        count, draws = self.config.train_per_task or TRAIN, Random(derive(seed, "mix"))
        aligned = list(TASKS) if self.config.phase is Phase.ALIGNMENT else []
        share = count // (FACT_SHARE + len(SKILLS) + len(aligned))
        train = draws.choices(facts(), k=count - share * (len(SKILLS) + len(aligned)))
        test: list[TextExample] = []
        for name, draw in SKILLS.items():
            train += examples(drawn(name, draw, draws, share))
            test += examples(examined(name, draw, draws, PROBED))
        for name in aligned:
            for style, part in ((Style.PLAIN, share - share // 2), (Style.FAMILIES, share // 2)):
                shown, asked = task_examples(name, style, derive(seed, style.value), part, TEST // 5)
                train, test = [*train, *shown], [*test, *asked]
        draws.shuffle(train)
        draws.shuffle(test)  # the first of them are asked
        return TextTask(self.config.phase.value, "exact_match", tuple(train), tuple(test))

    def probes(self, rows: Rows) -> tuple[Probe, ...]:
        """Facts, skills, and how likely their answers are."""
        draws = Random(derive(0, "probe"))
        able = [example for name, draw in SKILLS.items() for example in examples(examined(name, draw, draws, PROBED))]
        both = rows.columns([*facts(), *able], ["probe"] * (FACTS + len(able)))
        return (
            self._asked("facts", facts(), rows),
            self._asked("skills", able, rows),
            LikelihoodProbe("pretraining_answers", Source(both, self.device)),
        )

    def _asked(self, name: str, found: Sequence[TextExample], rows: Rows) -> AnswerProbe:
        answers = TextAnswers(rows.words, tuple((example, "exact_match") for example in found), self.config)
        return AnswerProbe(name, rows.source([(name, found)], self.device, numbered=True), answers)
