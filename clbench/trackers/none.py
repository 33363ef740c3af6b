"""No log but the records."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from clbench.tracker import Tracker, trackers


@dataclass
class NoneConfig:
    """Nothing to choose."""


@trackers.register(NoneConfig)
class NoTracker(Tracker):
    """Logs nothing."""

    def add(self, folder: Path) -> None:
        """Nothing."""

    def look(self) -> None:
        """Nothing."""

    def stop(self) -> None:
        """Nothing."""
