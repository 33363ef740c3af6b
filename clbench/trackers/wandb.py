"""Weights & Biases, offline unless WANDB_MODE says otherwise.

Needs ``pip install 'clbench[wandb]'``. Offline nothing leaves the machine and nobody logs in; ``wandb sync`` sends what
was logged. A run's id is its identity, its group scenario and strategy, its job type its phase, and tags name the
folder of the study, scenario, strategy, phase and seed. A command that is killed and given again leaves two folders of
the same id, the second with the moments that the first lacks: ``wandb sync --append`` joins them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clbench.errors import ConfigError
from clbench.moments import hyperparameters
from clbench.record import Record
from clbench.tracker import Log, LogTracker, trackers

LONGEST = 64  # characters of a tag


@dataclass
class WandbConfig:
    """Where logs lie, and under which project."""

    folder: Path | None = None  # where logs lie; null: wandb below output
    project: str = "clbench"  # of Weights & Biases


@trackers.register(WandbConfig)
class Wandb(LogTracker):
    """One run of theirs per run of ours."""

    config: WandbConfig

    def __init__(self, config: WandbConfig, output: Path) -> None:
        super().__init__(config, output)
        self.study = output.resolve().name
        self.mode: Any = os.environ.get("WANDB_MODE", "offline")
        try:
            import wandb
        except ImportError as error:
            raise ConfigError(f"tracker=wandb needs a package ({error}): pip install 'clbench[wandb]'") from error
        self._wandb = wandb
        self.shown_by = (
            f"wandb sync --append {self.folder}/wandb/offline-run-*" if self.mode == "offline" else "wandb.ai"
        )

    def open(self, found: Record, moment: int) -> Log:
        """Begin the run, or go on with it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        tags = (self.study, found.scenario, found.strategy, found.phase.value, f"seed {found.seed}")
        run = self._wandb.init(
            project=self.config.project,
            dir=str(self.folder.resolve()),  # its service may have another working folder
            id=found.run,
            name=f"{found.strategy} seed {found.seed} {found.run[:6]}",
            group=f"{found.scenario} {found.strategy}",
            job_type=found.phase.value,
            tags=[tag[:LONGEST] for tag in dict.fromkeys(tags)],
            config=hyperparameters(found),
            mode=self.mode,
            resume=None if self.mode == "offline" else "allow",
            reinit="create_new",  # several runs go on side by side
            settings=self._wandb.Settings(silent=True, console="off", disable_git=True, disable_code=True),
        )
        return _History(run)


class _History(Log):
    """A run of theirs."""

    def __init__(self, run: Any) -> None:
        self._run = run

    def write(self, moment: int, values: Mapping[str, float]) -> None:
        """One row of the history."""
        self._run.log(dict(values), step=moment)

    def finish(self, moment: int, values: Mapping[str, float], status: str) -> None:
        """The summary."""
        self._run.summary.update({**values, "status": status})

    def close(self) -> None:
        """Hand the rest over and let go."""
        self._run.finish()
