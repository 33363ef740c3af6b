"""TRACE's eight tasks: stances, monetary policy, meetings, code, science, sums, German news, one after another.

TRACE (arXiv 2310.06762) in its own order: C-STANCE, FOMC, MeetingBank, Py150, ScienceQA, NumGLUE-cm, NumGLUE-ds,
20Minuten, 5,000 training and 2,000 test examples each. A prompt holds the instruction, so the template adds nothing.
Scores are TRACE's by name (`clbench.texts.suites.TRACE_SCORES`), each in [0, 1]; how ours differ stands in
`clbench.texts.scoring`. Looked for as ``text/trace/`` or ``trace/`` (or under the names of its release,
``TRACE-Benchmark/LLM-CL-Benchmark_5000/``) under ``data.root``, then under ``CLBENCH_DATA``: a folder per task with
``train.json`` and ``test.json``, lists of prompt and answer; ``eval.json`` is not read. Nothing is downloaded.

A prompt has room for 1,024 tokens and an answer for 512, as in TRACE's scripts; a prompt that is too long loses its
beginning there and here. Its code trains 5, 3, 7, 5, 3, 5, 5 and 7 epochs on the tasks at a constant learning rate of
1e-5, keeps one optimiser for all of them, and samples its answers; here they are the likeliest tokens.

Certificate: no published number is reproduced yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from clbench.scenario import scenarios
from clbench.space import LogUniform, searched
from clbench.texts.corpora import TextTask, read_trace
from clbench.texts.files import SuiteConfig, SuiteScenario
from clbench.texts.suites import TRACE_ORDER


@dataclass
class TraceConfig(SuiteConfig):
    """The shared fields, with TRACE's lengths."""

    template: str = "{input}"  # what a prompt is made of
    longest: int | None = 1536  # tokens of a row, prompt and answer; null: all that the model can look at
    max_answer: int = 512  # tokens of an answer, EOS included


@scenarios.register(TraceConfig)
class Trace(SuiteScenario):
    """Eight tasks, each with a score of its own."""

    config: TraceConfig
    folders = ("trace", "TRACE", "TRACE-Benchmark/LLM-CL-Benchmark_5000", "LLM-CL-Benchmark_5000")
    training: ClassVar[dict[str, Any]] = {
        **SuiteScenario.training,
        "lr": searched(1e-5, LogUniform(1e-5, 1e-4)),
        "epochs": 5,
    }

    def listed(self) -> Sequence[str]:
        """All eight."""
        return TRACE_ORDER

    def read(self, folder: Path, name: str) -> TextTask:
        """One of them."""
        return read_trace(folder, name)
