"""Streams of text tasks: from questions and answers in words to rows of token ids, and back."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from enum import Enum
from typing import Any, ClassVar, cast

from torch import Tensor

from clbench.errors import ConfigError, IncompatibleError
from clbench.finetune import Optimizer
from clbench.models.config import EMBEDDED_CAUSAL, ModelConfig
from clbench.models.language import build_causal, check, context_of, tokenizer_of
from clbench.models.model import Model
from clbench.models.tokenizer import Tokenizer
from clbench.probe import Probe
from clbench.record import Part, Setting
from clbench.scenario import Modality, Scenario, Stream, class_order, class_stream, half_of_classes
from clbench.space import LogUniform, require, searched
from clbench.table import Batch
from clbench.texts.answers import Answers
from clbench.texts.corpora import TextExample, TextTask
from clbench.texts.prompts import Rows, Shorten
from clbench.texts.scoring import SCORES
from clbench.texts.tokens import TokenTransform, without_answers


class Order(Enum):
    """In which tasks arrive."""

    LISTED = "listed"  # as the scenario lists them: the published order
    REVERSED = "reversed"
    ALPHABETICAL = "alphabetical"
    SHUFFLED = "shuffled"  # drawn from the seed


@dataclass
class WordsConfig:
    """How questions and answers in words become rows of token ids."""

    template: str = "{instruction}\n{input}\n"  # what a prompt is made of
    chat: bool = False  # put the prompt into the tokenizer's chat template
    longest: int | None = None  # tokens of a row, prompt and answer; null: all that the model can look at
    max_answer: int = 64  # tokens of an answer, EOS included
    shorten: Shorten = Shorten.INPUT  # what a prompt loses that is too long

    def __post_init__(self) -> None:
        require(self.longest is None or self.longest >= 1, "scenario.longest", ">= 1 or null", self.longest)
        require(self.max_answer >= 2, "scenario.max_answer", ">= 2", self.max_answer)
        try:
            self.template.format(instruction="", input="")
        except (KeyError, IndexError, ValueError, AttributeError) as error:
            raise ConfigError(
                f"scenario.template may name {{instruction}} and {{input}} only, got {self.template!r}"
            ) from error


@dataclass
class TextConfig(WordsConfig):
    """What all streams of text tasks are told."""

    order: Order = Order.LISTED  # in which tasks arrive
    train_per_task: int | None = None  # training examples of each task, its first ones; null: all
    test_per_task: int | None = None  # test examples of each task, its first ones; null: all

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("train_per_task", "test_per_task"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"scenario.{name}", ">= 1 or null", value)


class WordsScenario(Scenario):
    """A stream in words, for a causal language model."""

    config: WordsConfig
    modality: ClassVar[Modality] = Modality.TEXTS
    default_model: ClassVar[str] = EMBEDDED_CAUSAL
    pretrained_model: ClassVar[str] = EMBEDDED_CAUSAL
    # TRACE's overall performance. The mean over the course would reward learning the newest task and losing the rest.
    criterion: ClassVar[str] = "last_accuracy_macro"
    training: ClassVar[dict[str, Any]] = {
        "optimizer": Optimizer.ADAMW,
        "lr": searched(1e-4, LogUniform(1e-5, 1e-2)),
        "weight_decay": 0.0,
        "batch_size": 16,
        "epochs": 1,
        "clip": 1.0,
        "warmup": 0.1,
    }

    def check(self, part: Part) -> None:
        """See that the model and its tokenizer are there."""
        check(self.language_model())
        self.longest()
        if self.config.chat:
            tokenizer_of(self.language_model()).chat("")

    def probes(self, rows: Rows) -> tuple[Probe, ...]:
        """What is measured beside the experiences."""
        return ()

    def language_model(self) -> ModelConfig:
        """The model's config, with a name."""
        return replace(self.model, name=self.model.name or self.default_model)

    def rows(self) -> Rows:
        """What makes rows of texts."""
        config, words = self.config, tokenizer_of(self.language_model())
        return Rows(words, config.template, config.chat, config.shorten, self.longest(), config.max_answer)

    def longest(self) -> int:
        """Tokens that a row may have.

        Raises:
            ConfigError: an answer may take up all of them.
        """
        context = context_of(self.language_model())
        longest = min(self.config.longest or context, context)
        if self.config.max_answer > longest - 2:  # BOS and a token of a prompt
            most = self.config.max_answer
            raise ConfigError(f"scenario.max_answer={most} leaves no room for a prompt in {longest} tokens; lower it")
        return longest

    def build_model(self, stream: Stream) -> Model:
        """The causal language model, with its weights."""
        known = cast(TextAnswers, stream.answers).instructions
        return build_causal(self.language_model(), self.config.max_answer, known)


class TextScenario(WordsScenario):
    """A list of text tasks, one experience each. Subclasses say which."""

    config: TextConfig

    @abstractmethod
    def names(self) -> Sequence[str]:
        """Names of the tasks, in their listed order; cheap."""

    @abstractmethod
    def tasks(self, seed: int) -> Sequence[TextTask]:
        """The tasks, in their listed order."""

    def check(self, part: Part) -> None:
        """Also see that the part has tasks."""
        self._chosen(part, None, False)
        super().check(part)

    def _chosen(self, part: Part, split_seed: int | None, swap: bool) -> list[int]:
        names = self.names()
        chosen = half_of_classes(len(names), part, split_seed, swap)
        if len(chosen) < 1:
            raise IncompatibleError(f"{len(names)} tasks leave none for the {part.value}; use protocol=single")
        return chosen

    def stream(self, seed: int, part: Part = Part.WHOLE, split_seed: int | None = None, swap: bool = False) -> Stream:
        """One task per experience."""
        config, names, chosen = self.config, self.names(), self._chosen(part, split_seed, swap)
        tasks, rows = self.tasks(seed), self.rows()
        words = rows.words
        train = rows.source([(task.name, task.train) for task in tasks], self.device, config.train_per_task)
        asked = [(task.name, task.test) for task in tasks]
        test = rows.source(asked, self.device, config.test_per_task, numbered=True)
        digest = digest_of(tasks, config)
        stream = class_stream(
            train,
            test,
            chosen,
            [1] * len(chosen),
            seed,
            Setting.INSTRUCTION,
            TokenTransform(config.template, words.digest[:16], rows.longest),
            digest,
            names,
            self._order(chosen, names, seed),
            family=type(self).__module__.rpartition(".")[2],
        )
        experiences = tuple(replace(e, shortened=rows.shortened[e.name]) for e in stream.experiences)
        probes = self.probes(rows)
        scored = tuple((example, task.score) for task in tasks for example in task.test)
        answers = TextAnswers(words, scored, config, tuple(rows.instructions))
        return replace(stream, experiences=experiences, answers=answers, probes=probes)

    def _order(self, chosen: list[int], names: Sequence[str], seed: int) -> list[int]:
        return {
            Order.LISTED: chosen,
            Order.REVERSED: chosen[::-1],
            Order.ALPHABETICAL: sorted(chosen, key=lambda task: names[task]),
            Order.SHUFFLED: [chosen[i] for i in class_order(len(chosen), seed)],
        }[self.config.order]


def digest_of(tasks: Sequence[TextTask], config: TextConfig) -> str:
    """sha256 of the examples that take part, in words, whatever the tokenizer."""
    total = hashlib.sha256()
    for task in tasks:
        for split, kept in (("train", config.train_per_task), ("test", config.test_per_task)):
            for example in getattr(task, split)[:kept]:
                parts = (task.name, task.score, split, *astuple(example))
                total.update(json.dumps(parts).encode())
    return total.hexdigest()


@dataclass(frozen=True)
class TextAnswers(Answers):
    """Answers in words.

    Attributes:
        words: from token ids to words.
        asked: every test example and the name of its score, by the column ``example``.
        config: of the scenario.
        instructions: texts by the column ``instruction``.
    """

    words: Tokenizer
    asked: tuple[tuple[TextExample, str], ...]
    config: WordsConfig
    instructions: tuple[str, ...] = ()

    def question(self, batch: Batch) -> Batch:
        """The prompts."""
        shown = without_answers(batch, self.words.pad)
        return {name: column for name, column in shown.items() if name not in ("label", "task", "example")}

    def said(self, predictions: Tensor) -> list[str]:
        """What token ids (N, A) mean, up to the first EOS."""
        rows = []
        for row in predictions.tolist():
            rows.append(row[: row.index(self.words.eos)] if self.words.eos in row else row)
        return self.words.decode(rows)

    def scores(self, predictions: Tensor, batch: Batch) -> list[float]:
        """Each answer under its task's score."""
        found = [self.asked[i] for i in batch["example"].tolist()]
        return [
            SCORES[score](said, example.references, example.input)
            for said, (example, score) in zip(self.said(predictions), found, strict=True)
        ]

    def transcript(self, predictions: Tensor, batch: Batch) -> list[dict[str, str]]:
        """Instruction, input, answer and the first reference."""
        found = [self.asked[i][0] for i in batch["example"].tolist()]
        return [
            {
                "instruction": example.instruction,
                "input": example.input,
                "answer": said,
                "reference": example.references[0],
            }
            for said, example in zip(self.said(predictions), found, strict=True)
        ]

    def conditions(self) -> Mapping[str, Any]:
        """How answers come about."""
        template = hashlib.sha256(f"{self.config.template} {self.config.chat}".encode()).hexdigest()
        return {
            "decoding": {"method": "greedy", "max_new_tokens": self.config.max_answer},
            "template": self.config.template,
            "template_sha256": template,
            "tokenizer_sha256": self.words.digest,
        }
