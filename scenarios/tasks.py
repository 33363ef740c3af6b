"""Any list of text tasks: JSON files of yours, or data sets of the Hugging Face hub, one after another.

``scenario.files=[sums.jsonl,'poems/a.json|poems/b.json']`` names a file for each task, or one to train on and one
to test on with ``|`` between them (in quotes). A file is a JSON list of objects, or an object per line; of a file that
stands alone a tenth of the questions is held out for the test (`clbench.texts.corpora.hold_out`). It may also be one
object with ``definition``, ``train`` and ``test``, or a task of Natural Instructions. Files are looked for from here,
then under ``data.root``, then under ``CLBENCH_DATA``. ``scenario.hub=[NAME,NAME:SUBSET]`` names data sets that the
package datasets loads (pip install 'clbench[text]'), local folders among them. Files come first, in the order in which
they are named.

Which fields are read, and how answers are scored, is the same for all tasks; a score is a name in
`clbench.texts.scoring.SCORES`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from clbench.errors import ConfigError
from clbench.places import find_file
from clbench.scenario import scenarios
from clbench.texts.corpora import Fields, TextTask, read_file, read_files, read_hub
from clbench.texts.probes import ProbedConfig, ProbedScenario, require_score

PARTED = "|"


@dataclass
class TasksConfig(ProbedConfig):
    """The shared fields, where the tasks are, and what is read of them."""

    files: list[str] = field(default_factory=list)  # a JSON or JSONL file per task: FILE, or 'TRAIN|TEST'
    hub: list[str] = field(default_factory=list)  # data sets of the Hugging Face hub: NAME, or NAME:SUBSET
    split: str = "train"  # of a data set, to train on
    test_split: str | None = "test"  # of a data set, to test on; null: a part of split is held out
    instruction: str | None = None  # field that says what is asked; null: none but a file's definition
    input: str | None = "input"  # field that it is asked of; null: none
    output: str = "output"  # field with an answer or a list of answers
    rejected: str | None = None  # field with an answer that is not preferred, for strategy=dpo; null: none
    score: str = "exact_match"  # how answers are scored
    longest: int | None = 1024  # tokens of a row, prompt and answer; null: all that the model can look at
    max_answer: int = 128  # tokens of an answer, EOS included

    def __post_init__(self) -> None:
        super().__post_init__()
        require_score("scenario.score", self.score)


@scenarios.register(TasksConfig)
class Tasks(ProbedScenario):
    """Tasks by their files or names."""

    config: TasksConfig

    def names(self) -> list[str]:
        """Stems of the files, or the files as they are named where stems are alike; names of the data sets.

        Raises:
            ConfigError: none is named, or one twice.
        """
        files = [entry.partition(PARTED)[0] for entry in self.config.files]
        stems = [Path(file).stem for file in files]
        found = [*(stems if len(set(stems)) == len(stems) else files), *self.config.hub]
        if not found:
            raise ConfigError(
                "scenario=tasks needs tasks: scenario.files=[a.jsonl,b.json] or scenario.hub=[NAME,NAME:SUBSET]"
            )
        twice = sorted({name for name in found if found.count(name) > 1})
        if twice:
            raise ConfigError(f"scenario.files and scenario.hub name {', '.join(twice)} twice; leave one out")
        return found

    def tasks(self, seed: int) -> Sequence[TextTask]:
        """The tasks as they are read, under their names."""
        read = [*map(self._of_files, self.config.files), *map(self._of_hub, self.config.hub)]
        return [replace(task, name=name) for name, task in zip(self.names(), read, strict=True)]

    def _of_files(self, entry: str) -> TextTask:
        first, *second = (find_file(self.root, Path(part)) for part in entry.split(PARTED, 1))
        if second:
            return read_files(first, second[0], self._fields(), self.config.score)
        return read_file(first, self._fields(), self.config.score)

    def _of_hub(self, entry: str) -> TextTask:
        config = self.config
        name, _, subset = entry.partition(":")
        return read_hub(name, subset or None, config.split, config.test_split, self._fields(), config.score)

    def _fields(self) -> Fields:
        return Fields(self.config.instruction, self.config.input, self.config.output, self.config.rejected)
