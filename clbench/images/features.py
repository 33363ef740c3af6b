"""Features of a frozen backbone, computed once and kept on disk for all strategies, seeds and class orders.

They are keyed by what decides their bits: network, weights, transform, data, kind of device and versions. Blocks of
consecutive rows are always computed together, so the bits do not depend on which run came first; a computation that
is killed loses the last few blocks. The cache lies under ``CLBENCH_CACHE``, else ``~/.cache/clbench``.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from rich.progress import track
from torch import Tensor

from clbench import places
from clbench.augment import Transform, Unchanged
from clbench.digest import state_digest
from clbench.errors import ClbenchError
from clbench.models.model import Model
from clbench.record import write_atomically
from clbench.scenario import Experience, Stream
from clbench.table import Source, Table

VERSION = "1"  # raised when our own networks or transforms come to give other features
BLOCK = 256  # rows computed together
PATIENCE = 20  # blocks; a longer computation shows its progress


def cache_folder() -> Path:
    """Where features are kept."""
    return places.cache_folder("features")


def with_features(stream: Stream, model: Model, device: torch.device, images: bool) -> Stream:
    """The same stream with a column ``feature`` (N, F) float32: the model's features of the unaugmented images.

    Args:
        stream: of images.
        model: whose backbone is frozen from now on.
        device: where features are computed and delivered.
        images: keep the column ``image`` too; without it batches need no transform any more.

    Raises:
        ClbenchError: the cache cannot be written.
    """
    versions = [torch.__version__, importlib.metadata.version("timm"), VERSION]
    network = [state_digest(model.backbone.state_dict()), repr(model.backbone), *versions]
    model.to(device).eval()
    made = {}
    for split in ("train", "test"):
        source = getattr(stream.experiences[0], split).source
        parts = [*network, repr(stream.transform), stream.source_digest, split, source.layout, device.type]
        key = json.dumps(parts)
        cache = _Cache(hashlib.sha256(key.encode()).hexdigest()[:16], source.length, model)
        columns = {name: c for name, c in source.columns.items() if images or name != "image"}
        feature = cache.filled(source, stream.transform)
        made[split] = Source({**columns, "feature": feature}, source.device, mapped=source.mapped, layout=source.layout)
    return replace(
        stream,
        experiences=tuple(_moved(experience, made) for experience in stream.experiences),
        transform=stream.transform if images else Unchanged(of=repr(stream.transform)),
    )


def _moved(experience: Experience, made: dict[str, Source]) -> Experience:
    return replace(
        experience,
        train=Table(made["train"], experience.train.rows),
        test=Table(made["test"], experience.test.rows),
    )


@dataclass(frozen=True)
class _Cache:
    """The features of one source's rows, in ``feature.npy``, and how many of them are there, in ``done.json``."""

    key: str
    length: int
    model: Model

    @property
    def folder(self) -> Path:
        return cache_folder() / self.key

    def filled(self, source: Source, transform: Transform) -> Tensor:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / "lock"):
                self._fill(source, transform)
                return torch.from_numpy(np.load(self.folder / "feature.npy", mmap_mode="c"))
        except OSError as error:
            raise ClbenchError(
                f"cannot keep features in {cache_folder()} ({error.strerror}); set CLBENCH_CACHE to another folder"
            ) from error

    def _fill(self, source: Source, transform: Transform) -> None:
        done = self._read()
        if done["rows"] >= self.length:
            return
        blocks = self._blocks(source, transform, done["rows"])
        todo = -(-(self.length - done["rows"]) // BLOCK)
        if todo > PATIENCE:
            blocks = iter(track(blocks, "features of the frozen backbone", total=todo))
        stored: Any = None
        for start, features in blocks:
            if stored is None:
                stored = self._open(start, features.shape[1])
            stored[start : start + len(features)] = features.cpu().numpy()
            if start // BLOCK % PATIENCE == PATIENCE - 1 or start + BLOCK >= self.length:
                stored.flush()
                state = {"rows": min(start + BLOCK, self.length)}
                write_atomically(self.folder / "done.json", json.dumps(state).encode())

    def _open(self, start: int, width: int) -> Any:
        mode: Any = "r+" if start else "w+"
        path = str(self.folder / "feature.npy")
        return np.lib.format.open_memmap(path, mode, np.float32, (self.length, width) if mode == "w+" else None)

    def _read(self) -> dict[str, Any]:
        try:
            done = dict(json.loads((self.folder / "done.json").read_text()))
            whole = len(np.load(self.folder / "feature.npy", mmap_mode="r")) == self.length
        except (FileNotFoundError, ValueError):  # none yet, or damaged
            whole = False
        return done if whole else {"rows": 0}

    @torch.no_grad()
    def _blocks(self, source: Source, transform: Transform, first: int) -> Iterator[tuple[int, Tensor]]:
        for start in range(first, self.length, BLOCK):
            rows = torch.arange(start, min(start + BLOCK, self.length))
            batch = source.take(rows.to(source.device))
            yield start, self.model.features(transform.evaluate(batch)).float()
