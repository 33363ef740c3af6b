"""Fifteen tasks of Super-NaturalInstructions: dialogue, sentiment, extraction, summaries, one after another.

The tasks of Super-NaturalInstructions (arXiv 2204.07705) that SAPT (arXiv 2401.08295, appendix) learns continually, in
its two published orders (``list=1`` or ``2``), at most 1,000 training and 100 test examples each. Score: ROUGE-L with
stemming, as SAPT's code has it for all of them, but over all references of an example, where SAPT draws one. Looked
for as ``text/superni15/`` or ``superni15/`` (or ``SuperNI/``, as SAPT's release has it) under ``data.root``, then under
``CLBENCH_DATA``: ``<task>.json`` with definition, train and test, or ``<task>/train.json`` and ``test.json``. Nothing
is downloaded.

A prompt has room for 512 tokens, as in SAPT's scripts; their answers end after 50 tokens, here after 128. What is too
long is cut (`clbench.texts.prompts`), where SAPT cuts the end of the prompt. Six training answers of
task511_reddit_tifu_long_text_summarization are empty: what is learnt there is to end at once.

Certificate: no published number is reproduced yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from clbench.scenario import scenarios
from clbench.texts.corpora import TextTask, read_superni
from clbench.texts.files import SuiteConfig, SuiteScenario
from clbench.texts.suites import SUPERNI_ORDERS


class TaskOrder(Enum):
    """SAPT's orders."""

    FIRST = "1"
    SECOND = "2"


@dataclass
class SuperniConfig(SuiteConfig):
    """The shared fields and the order."""

    list: TaskOrder = TaskOrder.FIRST  # the published order
    template: str = "{instruction}\n\nInput: {input}\nOutput:\n"  # what a prompt is made of
    longest: int | None = 640  # tokens of a row, prompt and answer; null: all that the model can look at
    max_answer: int = 128  # tokens of an answer, EOS included


@scenarios.register(SuperniConfig)
class Superni(SuiteScenario):
    """Fifteen tasks that say in words what is asked."""

    config: SuperniConfig
    folders = ("superni15", "SuperNI")

    def listed(self) -> Sequence[str]:
        """All fifteen."""
        return SUPERNI_ORDERS[int(self.config.list.value)]

    def read(self, folder: Path, name: str) -> TextTask:
        """One of them."""
        return read_superni(folder, name)
