"""Data in columns on one device: the only form in which examples travel.

A `Source` owns named columns of equal length, e.g. ``image`` (N, C, H, W) uint8 and ``label`` (N,) int64. A `Table` is
a choice of its rows. Experiences, halves and replay memories are Tables of one Source: choosing rows copies no data,
and a batch of new examples and exemplars is a single index selection.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from clbench.errors import DataError
from clbench.kernels.layout import pick
from clbench.record import write_atomically

LENGTH = "length"  # the column by which rows of like length come together
WINDOW = 32  # batches over which they are sorted

Batch: TypeAlias = dict[str, Tensor]
"""Columns of equal length, all of one batch."""


class Source:
    """Named columns of equal length, resident on a device or memory-mapped from disk.

    Args:
        columns: tensors whose first dimensions agree, laid out as their batches shall be (`clbench.kernels.layout`).
        device: where batches are delivered; the columns move there unless ``mapped``.
        mapped: leave the columns where they are (a memory map) and move batches only.
        layout: names the order of the rows where the digest of the data does not decide it, empty where it does.

    Raises:
        DataError: the columns differ in length.
    """

    def __init__(
        self,
        columns: Mapping[str, Tensor],
        device: torch.device | str = "cpu",
        mapped: bool = False,
        layout: str = "",
    ) -> None:
        lengths = {name: len(column) for name, column in columns.items()}
        if len(set(lengths.values())) > 1:
            raise DataError(f"columns of one table must have equal lengths, got {lengths}")
        self.device = torch.device(device)
        self.mapped, self.layout = mapped, layout
        self.columns = dict(columns) if mapped else {name: c.to(self.device) for name, c in columns.items()}
        self.length = next(iter(lengths.values()), 0)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row over all columns."""
        return sum(c.element_size() * (c.numel() // max(self.length, 1)) for c in self.columns.values())

    def take(self, rows: Tensor) -> Batch:
        """The rows numbered in ``rows`` (B,) int64, on this source's device."""
        return self._delivered(self._gathered(rows))

    def stream(self, row_batches: Iterable[Tensor]) -> Iterator[Batch]:
        """As `take` for each of ``row_batches``; where mapped, a thread gathers the next batch during this one's use.

        The row numbers themselves are asked for in the caller's thread, one batch ahead.
        """
        if not self.mapped:
            yield from map(self.take, row_batches)
            return
        with ThreadPoolExecutor(1, thread_name_prefix="gather") as thread:
            coming = None
            for rows in row_batches:
                ready, coming = coming, thread.submit(self._gathered, rows)
                if ready is not None:
                    yield self._delivered(ready.result())
            if coming is not None:
                yield self._delivered(coming.result())

    def _gathered(self, rows: Tensor) -> Batch:
        """Copies of whole rows, where the columns are."""
        if not self.mapped:
            return {n: pick(c, rows) for n, c in self.columns.items()}
        rows = rows.cpu()
        return {n: torch.index_select(c, 0, rows, out=self._landing(c, len(rows))) for n, c in self.columns.items()}

    def _landing(self, column: Tensor, rows: int) -> Tensor:
        """Where gathered rows go: page-locked memory where a GPU fetches them, so that nothing waits for it."""
        pinned = self.device.type == "cuda"
        return torch.empty((rows, *column.shape[1:]), dtype=column.dtype, pin_memory=pinned)

    def _delivered(self, batch: Batch) -> Batch:
        return {n: c.to(self.device, non_blocking=True) for n, c in batch.items()} if self.mapped else batch

    def digest(self) -> str:
        """sha256 over names, types, shapes and bytes of all columns, in hexadecimal."""
        total = hashlib.sha256()
        for name, column in sorted(self.columns.items()):
            total.update(f"{name} {column.dtype} {tuple(column.shape)}".encode())
            for block in column.split(4096):
                total.update(block.cpu().contiguous().numpy().tobytes())
        return total.hexdigest()

    def save(self, folder: Path) -> None:
        """Write one ``.npy`` file per column and, last, ``table.json``; whole or not at all."""
        for name, column in self.columns.items():
            partial = folder / f"{name}.npy.partial"
            folder.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                np.save(file, column.cpu().numpy())
            partial.replace(folder / f"{name}.npy")
        table = {"columns": sorted(self.columns), "digest": self.digest()}
        write_atomically(folder / "table.json", json.dumps(table).encode())

    @classmethod
    def open(cls, folder: Path, device: torch.device | str = "cpu", verify: bool = False) -> Source:
        """The source that `save` wrote, memory-mapped: pages are read when batches ask for them.

        Args:
            folder: where `save` wrote.
            device: where batches are delivered.
            verify: compare the digest, which reads everything once.

        Raises:
            DataError: the folder holds no whole table, or another than was written.
        """
        try:
            names = json.loads((folder / "table.json").read_text())
            columns = {
                name: torch.from_numpy(np.load(folder / f"{name}.npy", mmap_mode="c")) for name in names["columns"]
            }
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"{folder} holds no whole cached table ({error}); delete it to build it anew") from error
        source = cls(columns, device, mapped=True)
        if verify and source.digest() != names["digest"]:
            raise DataError(f"{folder} differs from what was cached; delete it to build it anew")
        return source


class Table:
    """Rows of a source.

    Args:
        source: where the columns are.
        rows: row numbers (N,) int64; all rows where None.
    """

    def __init__(self, source: Source, rows: Tensor | None = None) -> None:
        self.source = source
        self.rows = torch.arange(source.length, device=source.device) if rows is None else rows.to(source.device)

    def __len__(self) -> int:
        return len(self.rows)

    def column(self, name: str) -> Tensor:
        """One column of these rows, (N, ...), on the source's device."""
        column = self.source.columns[name]
        return column[self.rows.to(column.device)].to(self.source.device)

    def select(self, index: Tensor) -> Table:
        """The rows at positions ``index`` (M,) int64, or where ``index`` (N,) bool is true."""
        return Table(self.source, self.rows[index.to(self.rows.device)])

    def join(self, other: Table) -> Table:
        """These rows followed by the other's.

        Raises:
            ValueError: the two do not share a source.
        """
        if other.source is not self.source:
            raise ValueError("only tables of one source can be joined")
        return Table(self.source, torch.cat((self.rows, other.rows)))

    def batches(self, size: int, generator: torch.Generator | None = None) -> Iterator[Batch]:
        """Successive batches of ``size`` rows, the last one smaller; shuffled where a generator is given.

        A last row that would be alone joins the batch before: batch norm cannot train on a single example.
        """
        yield from self.source.stream(self.row_batches(size, generator))

    def row_batches(
        self, size: int, generator: torch.Generator | None = None, bucketed: bool = False
    ) -> Iterator[Tensor]:
        """As `batches`, but row numbers only, so that exemplars can be added before the one selection.

        Args:
            size: rows of a batch.
            generator: shuffles the rows.
            bucketed: have rows of like ``length`` share a batch, where they have a length and are shuffled.
        """
        rows = self.rows
        if generator is not None:
            order = torch.randperm(len(rows), generator=generator, device=generator.device)
            rows = rows[order.to(rows.device)]
            if bucketed and LENGTH in self.source.columns:
                rows = self._like_lengths_together(rows, size, generator)
        alone = self._last_is_alone(size)
        head = rows[: -size - 1] if alone else rows
        yield from head.split(size) if len(head) else ()
        if alone:
            yield rows[-size - 1 :]

    def _like_lengths_together(self, rows: Tensor, size: int, generator: torch.Generator) -> Tensor:
        """Shuffled rows so ordered that a batch needs little padding: sorted by length within each of some windows."""
        lengths = self.source.columns[LENGTH]
        lengths = lengths[rows.to(lengths.device)].to(rows.device)
        window = torch.arange(len(rows), device=rows.device) // (WINDOW * size)
        ordered = rows[torch.argsort(window * (int(lengths.max()) + 1 if len(rows) else 1) + lengths, stable=True)]
        whole = len(rows) // size
        places = torch.randperm(whole, generator=generator, device=generator.device).to(rows.device)
        batches = ordered[: whole * size].view(whole, size)[places].flatten()
        return torch.cat((batches, ordered[whole * size :]))

    def batch_count(self, size: int) -> int:
        """How many batches `batches` yields."""
        return math.ceil(len(self) / size) - self._last_is_alone(size)

    def _last_is_alone(self, size: int) -> bool:
        return len(self) > size > 1 and len(self) % size == 1


def place(columns: Mapping[str, Tensor], device: torch.device | str, cache: Path, limit: int | None = None) -> Source:
    """A source on the device where it fits, memory-mapped from disk where it does not.

    Args:
        columns: as `Source` takes them, in memory.
        device: where batches are wanted.
        cache: folder for the memory-mapped copy.
        limit: bytes that may be resident; half of the device's free memory where None.
    """
    size = sum(c.numel() * c.element_size() for c in columns.values())
    if fits(size, device) if limit is None else size <= limit:
        return Source(columns, device)
    Source(columns).save(cache)
    return Source.open(cache, device)


def fits(size: int, device: torch.device | str) -> bool:
    """Whether ``size`` bytes take at most half of the device's free memory."""
    return size <= _free_bytes(torch.device(device)) // 2


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    pages = "SC_AVPHYS_PAGES" if "SC_AVPHYS_PAGES" in os.sysconf_names else "SC_PHYS_PAGES"
    return os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE")
