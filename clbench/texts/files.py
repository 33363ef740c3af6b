"""Published suites of text tasks, found on disk."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import ClassVar

from clbench.errors import DataError
from clbench.places import text_folder
from clbench.registry import unknown
from clbench.texts.corpora import TextTask
from clbench.texts.probes import ProbedConfig, ProbedScenario


class Missing(Enum):
    """What becomes of tasks that are not there."""

    ERROR = "error"  # nothing is run
    SKIP = "skip"  # the stream goes on without them; the record names those that it had


@dataclass
class SuiteConfig(ProbedConfig):
    """The shared fields, and which of the suite's tasks take part."""

    tasks: list[str] = field(default_factory=list)  # only these tasks, in the suite's order; empty: all
    missing: Missing = Missing.ERROR  # what becomes of tasks whose files are not there


class SuiteScenario(ProbedScenario):
    """A suite's tasks, one experience each. Subclasses say which and how they are read."""

    config: SuiteConfig
    folders: ClassVar[tuple[str, ...]]
    """Names that the suite's folder may have."""

    @abstractmethod
    def listed(self) -> Sequence[str]:
        """Names of all tasks in the published order."""

    @abstractmethod
    def read(self, folder: Path, name: str) -> TextTask:
        """One task."""

    def names(self) -> list[str]:
        """Those that are asked for and there, in the published order.

        Raises:
            UnknownNameError: the suite has no task of a name that is asked for.
            DataError: one is not there, or none is.
        """
        listed, folder = self.listed(), text_folder(self.root, self.folders)
        for name in self.config.tasks:
            if name not in listed:
                raise unknown("task", name, list(listed))
        chosen = [name for name in listed if name in (self.config.tasks or listed)]
        lacking = [name for name in chosen if not _is_there(folder, name)]
        if len(lacking) == len(chosen):
            raise DataError(f"{folder} has none of the tasks {', '.join(chosen)}; put them there")
        if lacking and self.config.missing is Missing.ERROR:
            raise DataError(
                f"{folder} lacks {len(lacking)} of {len(chosen)} tasks: {', '.join(lacking)}; put them there, or go on "
                "without them: scenario.missing=skip"
            )
        return [name for name in chosen if name not in lacking]

    def tasks(self, seed: int) -> list[TextTask]:
        """The tasks of `names`, as their files have them."""
        folder = text_folder(self.root, self.folders)
        return [self.read(folder, name) for name in self.names()]


def _is_there(folder: Path, name: str) -> bool:
    return (folder / f"{name}.json").is_file() or (folder / name).is_dir()
