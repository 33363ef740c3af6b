"""Streams of text tasks: from questions and answers in words to rows of token ids, and back."""

from __future__ import annotations

import hashlib
import itertools
import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from clbench.answers import Answers
from clbench.corpora import TextExample, TextTask
from clbench.errors import ConfigError, DataError, IncompatibleError
from clbench.finetune import Optimizer
from clbench.models.config import EMBEDDED_CAUSAL, ModelConfig
from clbench.models.language import build_causal, check, context_of, tokenizer_of
from clbench.models.model import Model
from clbench.models.tokenizer import Tokenizer
from clbench.probe import Probe, Probed, Unit
from clbench.record import Part, Setting
from clbench.scenario import Modality, Scenario, Stream, class_order, class_stream, half_of_classes
from clbench.scoring import SCORES
from clbench.space import LogUniform, require, searched
from clbench.table import Batch, Source, Table
from clbench.tokens import (
    REJECTED,
    REJECTED_LENGTH,
    TokenTransform,
    columns,
    rows_at_once,
    without_answers,
)

BATCH = 256  # rows per call of a probe; fewer long texts


class Order(Enum):
    """In which tasks arrive."""

    LISTED = "listed"  # as the scenario lists them: the published order
    REVERSED = "reversed"
    ALPHABETICAL = "alphabetical"
    SHUFFLED = "shuffled"  # drawn from the seed


@dataclass
class TextConfig:
    """What all streams of texts are told."""

    order: Order = Order.LISTED  # in which tasks arrive
    train_per_task: int | None = None  # training examples of each task, its first ones; null: all
    test_per_task: int | None = None  # test examples of each task, its first ones; null: all
    template: str = "{instruction}\n{input}\n"  # what a prompt is made of
    chat: bool = False  # put the prompt into the tokenizer's chat template
    longest: int | None = None  # tokens of a row, prompt and answer; null: all that the model can look at
    max_answer: int = 64  # tokens of an answer, EOS included

    def __post_init__(self) -> None:
        for name in ("train_per_task", "test_per_task", "longest"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"scenario.{name}", ">= 1 or null", value)
        require(self.max_answer >= 2, "scenario.max_answer", ">= 2", self.max_answer)
        try:
            self.template.format(instruction="", input="")
        except (KeyError, IndexError, ValueError, AttributeError) as error:
            raise ConfigError(
                f"scenario.template may name {{instruction}} and {{input}} only, got {self.template!r}"
            ) from error


class TextScenario(Scenario):
    """A list of text tasks, one experience each. Subclasses say which."""

    config: TextConfig
    modality: ClassVar[Modality] = Modality.TEXTS
    default_model: ClassVar[str] = EMBEDDED_CAUSAL
    pretrained_model: ClassVar[str] = EMBEDDED_CAUSAL
    training: ClassVar[dict[str, Any]] = {
        "optimizer": Optimizer.ADAMW,
        "lr": searched(1e-4, LogUniform(1e-5, 1e-2)),
        "weight_decay": 0.0,
        "batch_size": 16,
        "epochs": 1,
        "clip": 1.0,
        "warmup": 0.1,
    }

    @abstractmethod
    def names(self) -> Sequence[str]:
        """Names of the tasks, in their listed order; cheap."""

    @abstractmethod
    def tasks(self, seed: int) -> Sequence[TextTask]:
        """The tasks, in their listed order."""

    def probes(self, rows: Rows) -> tuple[Probe, ...]:
        """What is measured beside the tasks."""
        return ()

    def check(self, part: Part) -> None:
        """See that the part has tasks, and that the model and its tokenizer are there."""
        self._chosen(part, None, False)
        check(self._model())
        words = tokenizer_of(self._model())
        if self.config.chat:
            words.chat("")

    def _model(self) -> ModelConfig:
        return replace(self.model, name=self.model.name or self.default_model)

    def _chosen(self, part: Part, split_seed: int | None, swap: bool) -> list[int]:
        names = self.names()
        chosen = half_of_classes(len(names), part, split_seed, swap)
        if len(chosen) < 1:
            raise IncompatibleError(f"{len(names)} tasks leave none for the {part.value}; use protocol=single")
        return chosen

    def stream(self, seed: int, part: Part = Part.WHOLE, split_seed: int | None = None, swap: bool = False) -> Stream:
        """One task per experience."""
        names, chosen = self.names(), self._chosen(part, split_seed, swap)
        words, tasks = tokenizer_of(self._model()), self.tasks(seed)
        order = {
            Order.LISTED: chosen,
            Order.REVERSED: chosen[::-1],
            Order.ALPHABETICAL: sorted(chosen, key=lambda task: names[task]),
            Order.SHUFFLED: [chosen[i] for i in class_order(len(chosen), seed)],
        }[self.config.order]
        rows = Rows(words, self.config, self.longest())
        train = rows.source([(task.name, task.train) for task in tasks], self.device, self.config.train_per_task)
        asked = [(task.name, task.test) for task in tasks]
        test = rows.source(asked, self.device, self.config.test_per_task, numbered=True)
        digest = digest_of(tasks, self.config)
        stream = class_stream(
            train,
            test,
            chosen,
            [1] * len(chosen),
            seed,
            Setting.INSTRUCTION,
            TokenTransform(self.config.template, words.digest[:16], rows.longest),
            digest,
            names,
            order,
            family=type(self).__module__.rpartition(".")[2],
        )
        probes = self.probes(rows)
        scored = tuple((example, task.score) for task in tasks for example in task.test)
        answers = TextAnswers(words, scored, self.config, tuple(rows.instructions))
        return replace(stream, answers=answers, probes=probes)

    def longest(self) -> int:
        """Tokens that a row may have.

        Raises:
            ConfigError: an answer may take up all of them.
        """
        context = context_of(self._model())
        longest = min(self.config.longest or context, context)
        most = self.config.max_answer
        if most + 1 >= longest:  # BOS and one token of a prompt at least
            raise ConfigError(f"scenario.max_answer={most} leaves no room for a prompt in {longest} tokens; lower it")
        return longest

    def build_model(self, stream: Stream) -> Model:
        """The causal language model, with its weights."""
        known = cast(TextAnswers, stream.answers).instructions
        return build_causal(self._model(), self.config.max_answer, known)


@dataclass(frozen=True)
class Rows:
    """From examples to token ids.

    Attributes:
        words: of the model.
        config: template and lengths.
        longest: tokens of a row.
        instructions: numbers of the instructions that have been met, by their texts.
    """

    words: Tokenizer
    config: TextConfig
    longest: int
    instructions: dict[str, int] = field(default_factory=dict)

    def prompt(self, example: TextExample) -> str:
        """What a model is asked, in words."""
        text = self.config.template.format(instruction=example.instruction, input=example.input)
        return self.words.chat(text) if self.config.chat else text

    def source(
        self,
        groups: Sequence[tuple[str, Sequence[TextExample]]],
        device: torch.device,
        kept: int | None = None,
        numbered: bool = False,
    ) -> Source:
        """The examples of named groups, one group after another; column ``label`` counts the groups.

        Args:
            groups: names, for messages, and examples.
            device: where the rows are.
            kept: of each group, its first ones; None: all.
            numbered: tell each row's place among all examples, kept or not, in the column ``example``.

        Raises:
            IncompatibleError: an answer is longer than allowed.
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
        """Columns of `clbench.tokens`. A prompt that leaves no room for its answer loses its beginning."""
        prompts = self.words.encode([self.prompt(example) for example in examples])
        answers = self.words.encode([example.references[0] for example in examples])
        rows = []
        for prompt, answer, name in zip(prompts, answers, names, strict=True):
            if len(answer) + 1 > self.config.max_answer:
                raise IncompatibleError(
                    f"an answer of task {name} has {len(answer) + 1} tokens with EOS, more than scenario.max_answer="
                    f"{self.config.max_answer}; raise it (a row has {self.longest})"
                )
            room = self.longest - self.config.max_answer - len(self.words.start)
            asked = [*self.words.start, *prompt[-room:]]
            if not asked:
                raise IncompatibleError(f"a prompt of task {name} is empty, so nothing is asked; see scenario.template")
            rows.append((asked, [*answer, self.words.eos]))
        made = columns([prompt for prompt, _ in rows], [answer for _, answer in rows], self.words.pad)
        if examples and all(example.rejected is not None for example in examples):
            others = self.words.encode([str(example.rejected) for example in examples])
            cut = [[*answer[: self.config.max_answer - 1], self.words.eos] for answer in others]
            refused = columns([prompt for prompt, _ in rows], cut, self.words.pad)
            made |= {REJECTED: refused["tokens"], REJECTED_LENGTH: refused["length"]}
        numbers = [self.instructions.setdefault(e.instruction, len(self.instructions)) for e in examples]
        return {**made, "instruction": torch.tensor(numbers, dtype=torch.int64)}


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
    config: TextConfig
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


class AnswerProbe(Probe):
    """The share of questions that are still answered.

    Args:
        name: for tables.
        source: columns of `clbench.tokens` and ``example``.
        answers: how they are asked and scored.
    """

    unit = Unit.ACCURACY

    def __init__(self, name: str, source: Source, answers: TextAnswers) -> None:
        self.name, self.table, self.answers = name, Table(source), answers

    def measure(self, strategy: Any) -> Probed:
        """Sum of scores over questions."""
        total = 0.0
        for batch in self.table.batches(rows_at_once(self.table.source.columns, BATCH)):
            total += sum(self.answers.scores(strategy.predict(self.answers.question(batch)), batch))
        return Probed(total, len(self.table))


class LikelihoodProbe(Probe):
    """How likely texts, or answers, still are.

    Args:
        name: for tables.
        source: columns of `clbench.tokens`.
    """

    unit = Unit.LOG_LIKELIHOOD

    def __init__(self, name: str, source: Source) -> None:
        self.name, self.table = name, Table(source)

    def measure(self, strategy: Any) -> Probed:
        """Sum of log-likelihoods over tokens."""
        total, count = 0.0, 0
        for batch in self.table.batches(rows_at_once(self.table.source.columns, BATCH)):
            likelihoods, lengths = strategy.log_likelihoods(batch)
            total, count = total + float(likelihoods.double().sum()), count + int(lengths.sum())
        return Probed(total, count)


def data_folder(root: Path | None, name: str, environment: str | None) -> Path:
    """The folder ``name`` below ``root``, else below ``environment``.

    Raises:
        DataError: it is in neither.
    """
    for base in (root, Path(environment) if environment else None):
        if base is not None and (base / name).is_dir():
            return base / name
    raise DataError(f"no folder {name!r} under data.root or CLBENCH_DATA; put the data there, or name their folder")
