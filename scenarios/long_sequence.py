"""Fifteen text classification tasks, O-LoRA's long sequence, one after another.

Five of the standard benchmark (agnews, amazon, dbpedia, yahoo, yelp), four of GLUE, five of SuperGLUE and imdb, in
O-LoRA's (arXiv 2310.14152) orders 4, 5 and 6 (``list``). Labels are answered in words; an answer is right where it is
the label in small letters, punctuation aside. Looked for as ``text/long_sequence/`` or ``long_sequence/`` (or
``Long_Sequence/``, as SAPT's release has it) under ``data.root``, then under ``CLBENCH_DATA``: ``<task>.json`` with
definition, train and test, or ``<task>/train.json`` and ``test.json``. Nothing is downloaded. Where tasks are missing,
``missing=skip`` goes on without them; every record names those that it had.

A prompt has room for 512 tokens, as in O-LoRA's scripts, an answer for 32. The authors take 1,000 training examples per
task: ``train_per_task=1000`` takes the first ones. Known faults of the files stand in `clbench.texts.corpora`.

Certificate: no published number is reproduced yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from clbench.scenario import scenarios
from clbench.texts.corpora import TextTask, read_long_sequence
from clbench.texts.files import SuiteConfig, SuiteScenario
from clbench.texts.suites import LONG_SEQUENCE_ORDERS


class TaskOrder(Enum):
    """O-LoRA's orders of fifteen tasks."""

    FOURTH = "4"
    FIFTH = "5"
    SIXTH = "6"


@dataclass
class LongSequenceConfig(SuiteConfig):
    """The shared fields and the order."""

    list: TaskOrder = TaskOrder.FOURTH  # the published order
    template: str = "{instruction}\n{input}\nAnswer:\n"  # what a prompt is made of
    longest: int | None = 544  # tokens of a row, prompt and answer; null: all that the model can look at
    max_answer: int = 32  # tokens of an answer, EOS included


@scenarios.register(LongSequenceConfig)
class LongSequence(SuiteScenario):
    """Fifteen classification tasks that say in words what is asked."""

    config: LongSequenceConfig
    folders = ("long_sequence", "Long_Sequence")

    def listed(self) -> Sequence[str]:
        """All fifteen."""
        return LONG_SEQUENCE_ORDERS[int(self.config.list.value)]

    def read(self, folder: Path, name: str) -> TextTask:
        """One of them."""
        return read_long_sequence(folder, name)
