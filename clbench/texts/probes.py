"""Streams of texts for models that could do something before: what they start from, and what is measured beside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from clbench.errors import ConfigError
from clbench.models.language import context_of, tokenizer_of
from clbench.places import find_file
from clbench.probe import AnswerProbe, LikelihoodProbe, Probe
from clbench.record import Part
from clbench.space import LogUniform, require, searched
from clbench.table import Source
from clbench.texts.corpora import TextExample, read_questions
from clbench.texts.harness import HarnessProbe, check_tasks, title
from clbench.texts.prompts import Rows
from clbench.texts.rows import read_texts
from clbench.texts.scoring import SCORES
from clbench.texts.streams import TextAnswers, TextConfig, TextScenario, WordsConfig, WordsScenario

HUB_MODEL = "HuggingFaceTB/SmolLM2-135M"


@dataclass
class ProbesConfig(WordsConfig):
    """How texts become rows, and what is probed."""

    probe_text: Path | None = None  # text file whose perplexity is measured; lines <|endoftext|> part its texts
    probe_tokens: int = 512  # tokens of each row that those texts are cut into
    probe_tasks: list[str] = field(default_factory=list)  # JSON or JSONL files of questions that are asked
    probe_score: str = "exact_match_normalised"  # how their answers are scored
    probe_harness: list[str] = field(default_factory=list)  # TASK or TASK:METRIC of lm-evaluation-harness
    probe_size: int | None = None  # questions of each probe, its first ones; null: all

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.probe_tokens >= 2, "scenario.probe_tokens", ">= 2", self.probe_tokens)
        require(self.probe_size is None or self.probe_size >= 1, "scenario.probe_size", ">= 1 or null", self.probe_size)
        require_score("scenario.probe_score", self.probe_score)
        names = probe_names(self)
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigError(f"several probes are called {', '.join(twice)}; rename a file or leave one out")


@dataclass
class ProbedConfig(TextConfig, ProbesConfig):
    """The shared fields, and what is probed."""


class ProbedWordsScenario(WordsScenario):
    """A stream in words for a model of the hub, or one's own, with abilities beside it."""

    config: ProbesConfig
    default_model: ClassVar[str] = HUB_MODEL
    pretrained_model: ClassVar[str] = HUB_MODEL
    training: ClassVar[dict[str, Any]] = {
        **WordsScenario.training,
        "lr": searched(3e-5, LogUniform(1e-5, 1e-4)),
        "epochs": 3,
        "warmup": 0.03,
    }

    def check(self, part: Part) -> None:
        """Also read what is probed."""
        super().check(part)
        self._texts()
        self._questions()
        check_tasks(self.config.probe_harness)

    def probes(self, rows: Rows) -> tuple[Probe, ...]:
        """Texts, then questions, then tasks of the harness."""
        longest = min(self.config.probe_tokens, context_of(self.language_model()))
        fast, size = tokenizer_of(self.language_model()).fast, self.config.probe_size
        return (
            *(LikelihoodProbe(n, Source(rows.texts(t, longest), self.device)) for n, t in self._texts().items()),
            *(self._asked(rows, name, examples) for name, examples in self._questions().items()),
            *(HarnessProbe(task, fast, size) for task in self.config.probe_harness),
        )

    def _asked(self, rows: Rows, name: str, examples: Sequence[TextExample]) -> AnswerProbe:
        scored = tuple((example, self.config.probe_score) for example in examples)
        source = rows.source([(name, examples)], self.device, numbered=True)
        return AnswerProbe(name, source, TextAnswers(rows.words, scored, self.config))

    def _texts(self) -> dict[str, list[str]]:
        path = self.config.probe_text
        return {} if path is None else {path.stem: read_texts(find_file(self.root, path))}

    def _questions(self) -> dict[str, Sequence[TextExample]]:
        files = [Path(path) for path in self.config.probe_tasks]
        return {path.stem: read_questions(find_file(self.root, path))[: self.config.probe_size] for path in files}


class ProbedScenario(ProbedWordsScenario, TextScenario):
    """A list of text tasks for a model of the hub, or one's own. Subclasses say which."""

    config: ProbedConfig

    def check(self, part: Part) -> None:
        """Also read the tasks."""
        super().check(part)
        self.tasks(0)


def probe_names(config: ProbesConfig) -> list[str]:
    """What tables call the probes."""
    texts = [] if config.probe_text is None else [config.probe_text.stem]
    return [*texts, *(Path(path).stem for path in config.probe_tasks), *map(title, config.probe_harness)]


def require_score(name: str, score: str) -> None:
    """Check a config field that names a score.

    Raises:
        ConfigError: there is no such score.
    """
    require(score in SCORES, name, f"one of {', '.join(SCORES)}", repr(score))
