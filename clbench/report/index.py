"""All runs below some folders, each file read once and again only when it has changed.

Reading ten thousand records and computing their metrics takes 20 s, so what tables need of each (`Entry`) is kept
in an SQLite file in the user's cache, by path, time and size of the ``record.json``. The records stay the only truth:
the index can be deleted at any time, two people's folders are merged by copying, and code that computes something else
begins an index of its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from clbench import metrics, places, record
from clbench.errors import ClbenchError, DataError
from clbench.record import Phase, Status
from clbench.report import entry
from clbench.report.entry import Entry, Runs

TABLE = """CREATE TABLE IF NOT EXISTS runs (
    path TEXT PRIMARY KEY, modified INTEGER, size INTEGER, kind TEXT, run TEXT, content BLOB)"""
WAIT = 30.0  # seconds for another process that writes
KEPT = 30 * 86_400  # seconds that the index of other code is kept without being written to


class Kind(str, Enum):
    """What became of a file; a string, so that SQLite takes it."""

    TUNING = "tuning"  # no table holds it
    UNFINISHED = "unfinished"
    FINISHED = "finished"  # its content is an entry
    FAULT = "fault"  # its content says why


class Line(NamedTuple):
    """A file's line in the index."""

    path: str
    modified: int  # ns
    size: int  # bytes
    kind: Kind
    run: str
    content: bytes


def read(folders: Sequence[Path], told: Callable[[int, int], None] = lambda done, all: None) -> Runs:
    """Every evaluation run below the folders, each once, in the order of their paths.

    A run that lies in several places is taken from where it is finished. A record that cannot be read, or that
    contradicts another of the same name, is a fault in what is returned and stops nothing.

    Args:
        folders: output folders of `clbench run`.
        told: is told how many of how many new or changed records have been read.

    Raises:
        DataError: a folder does not exist.
    """
    for folder in folders:
        if not folder.is_dir():
            raise DataError(f"no folder {str(folder)!r} to read runs from; name the output folder of `clbench run`")
    roots = [folder.resolve() for folder in folders]
    try:
        lines = _lines(places.cache_folder("index") / f"{_fingerprint()}.sqlite", roots, told)
    except (OSError, sqlite3.Error):  # no room, no right to write, no whole file: then without what was read before
        lines = _lines(None, roots, told)
    return _runs(lines)


def _lines(path: Path | None, roots: Sequence[Path], told: Callable[[int, int], None]) -> list[Line]:
    """Of all files below the roots, in the order of their paths; of an index in memory where no path is given."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        for old in path.parent.glob("*.sqlite"):
            if old.name != path.name and time.time() - old.stat().st_mtime > KEPT:
                old.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(path or ":memory:", timeout=WAIT)) as index:
        index.execute(TABLE)
        for root in roots:
            _bring_up_to_date(index, root, told)
        found = {line.path: line for root in roots for line in _below(index, root)}
    return [found[name] for name in sorted(found)]


def _runs(lines: Iterable[Line]) -> Runs:
    found: list[Entry] = []
    faults: list[str] = []
    begun: set[str] = set()
    for line in lines:
        if line.kind is Kind.FINISHED:
            found.append(entry.from_json(line.content.decode(), Path(line.path)))
        elif line.kind is Kind.FAULT:
            faults.append(line.content.decode())
        elif line.kind is Kind.UNFINISHED:
            begun.add(line.run)
    each = {one.record.run: one for one in reversed(found)}
    ordered = tuple(one for one in found if each[one.record.run] is one)
    return Runs(ordered, len(begun - set(each)), (*faults, *entry.contradictions(found)))


def _fingerprint() -> str:
    """Of the code that decides what an entry says."""
    here = Path(__file__).parent
    code = [Path(str(module.__file__)) for module in (metrics, record)] + sorted(here.glob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in code)).hexdigest()[:16]


def _bring_up_to_date(index: sqlite3.Connection, root: Path, told: Callable[[int, int], None]) -> None:
    there = {path: (status.st_mtime_ns, status.st_size) for path, status in _files(root)}
    known = {path: (modified, size) for path, modified, size in _selected(index, "path, modified, size", root)}
    changed = [path for path, seen in there.items() if known.get(path) != seen]
    with index:
        index.executemany("DELETE FROM runs WHERE path = ?", [(path,) for path in known.keys() - there.keys()])
    for start in range(0, len(changed), 500):
        lines = [_line(path, *there[path]) for path in changed[start : start + 500]]
        with index:
            index.executemany("INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?, ?)", lines)
        told(start + len(lines), len(changed))


def _files(root: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Every ``record.json`` below a folder; a run's own folder holds no other runs."""
    waiting = [str(root)]
    while waiting:
        with contextlib.suppress(FileNotFoundError), os.scandir(waiting.pop()) as found:  # deleted just now
            entries = list(found)
            records = [one for one in entries if one.name == "record.json"]
            for one in records:
                yield one.path, one.stat()
            if not records:
                waiting += [one.path for one in entries if one.is_dir(follow_symlinks=False)]


def _line(path: str, modified: int, size: int) -> Line:
    try:
        found = record.read(Path(path).parent)
        if found is None:
            raise ClbenchError(f"{path}: deleted while it was read")
        if found.phase is Phase.TUNING:
            return Line(path, modified, size, Kind.TUNING, found.run, b"")
        if found.status is Status.RUNNING:
            return Line(path, modified, size, Kind.UNFINISHED, found.run, b"")
        text = entry.to_json(entry.entry(found, Path(path)))
        return Line(path, modified, size, Kind.FINISHED, found.run, text.encode())
    except (ClbenchError, OSError, ArithmeticError, LookupError, ValueError) as error:
        return Line(path, modified, size, Kind.FAULT, "", str(error).encode())


def _below(index: sqlite3.Connection, root: Path) -> Iterator[Line]:
    for path, modified, size, kind, run, content in _selected(index, "*", root):
        yield Line(path, modified, size, Kind(kind), run, content)


def _selected(index: sqlite3.Connection, columns: str, root: Path) -> sqlite3.Cursor:
    # "0" follows "/" in the order of text, so that these are the paths below the folder and no others.
    where = (f"{str(root).rstrip('/')}/", f"{str(root).rstrip('/')}0")
    return index.execute(f"SELECT {columns} FROM runs WHERE path >= ? AND path < ?", where)
