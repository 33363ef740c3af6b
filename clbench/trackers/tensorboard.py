"""TensorBoard event files, written as the runs go on.

Needs ``pip install 'clbench[tensorboard]'``. A run's events lie below its scenario, strategy and phase, in a folder of
its seed and identity, so that TensorBoard's own filter tells them apart; its config is in the tab of hyper-parameters,
beside its final metrics. What a killed command logged and did not note is purged by TensorBoard when it goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clbench.errors import ConfigError
from clbench.metrics import METRICS
from clbench.moments import hyperparameters
from clbench.record import Record
from clbench.tracker import Log, LogTracker, trackers


@dataclass
class TensorBoardConfig:
    """Where event files lie."""

    folder: Path | None = None  # where logs lie; null: tensorboard below output


@trackers.register(TensorBoardConfig)
class TensorBoard(LogTracker):
    """One folder of events per run."""

    def __init__(self, config: TensorBoardConfig, output: Path) -> None:
        super().__init__(config, output)
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ConfigError(
                f"tracker=tensorboard needs a package ({error}): pip install 'clbench[tensorboard]'"
            ) from error
        self._writer = SummaryWriter
        self.shown_by = f"tensorboard --logdir {self.folder}"

    def open(self, found: Record, moment: int) -> Log:
        """Go on with the run's events, or begin them with its config."""
        name = f"seed {found.seed} {found.run}"
        folder = self.folder.joinpath(found.scenario, found.strategy, found.phase.value, name)
        return _Events(self._writer(folder, purge_step=moment or None), found)


class _Events(Log):
    """A writer of events."""

    def __init__(self, writer: Any, found: Record) -> None:
        from torch.utils.tensorboard.summary import hparams

        self._writer = writer
        told = {k: v if isinstance(v, bool | int | float | str) else str(v) for k, v in hyperparameters(found).items()}
        names, begin, self._end = hparams(told, {f"final/{name}": None for name in METRICS})
        for summary in (names, begin):
            writer.file_writer.add_summary(summary)

    def write(self, moment: int, values: Mapping[str, float]) -> None:
        """One scalar each."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, moment)
        self._writer.flush()

    def finish(self, moment: int, values: Mapping[str, float], status: str) -> None:
        """The metrics that stand beside the hyper-parameters."""
        self._writer.add_text("status", status, moment)
        self.write(moment, values)
        self._writer.file_writer.add_summary(self._end)

    def close(self) -> None:
        """Close the file of events."""
        self._writer.close()
