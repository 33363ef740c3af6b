"""Image files decoded once into one memory-mapped file of squares.

The cache is a folder with ``images.bin``, one square (3, side, side) uint8 after the other, and ``journal.jsonl``, one
line per square: whose it is, that file's size and time of change, the digest of the pixels. A square is written and
synced before its line, so what has a line is whole: after a kill, decoding goes on with the files that have none. A
file that has changed gets a new square at the end; no square is ever overwritten, since other processes may be
reading it. Several processes may ask at once: one decodes, the others wait.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from clbench.environment import cores
from clbench.errors import DataError
from clbench.images.picture import Pixels, reason, square

BLOCK = 32  # images that one thread decodes before they are synced to the disk
NAMED = 5  # unreadable files that an error names
IMAGES, JOURNAL = "images.bin", "journal.jsonl"


class ImageFile(NamedTuple):
    """A file as it was found."""

    path: str  # relative to the root of its set
    size: int  # bytes
    changed: int  # ns


class _Line(NamedTuple):
    """A line of the journal."""

    path: str
    size: int
    changed: int
    row: int  # in images.bin
    digest: str  # sha256 of the square


class _Block(NamedTuple):
    """What became of a block of files."""

    lines: list[_Line]
    errors: list[str]  # file and reason


@dataclass(frozen=True)
class Decoded:
    """Squares on disk, and which of them belong to the files asked for.

    Attributes:
        images: (M, 3, side, side) uint8, memory-mapped, M >= N.
        rows: row of each file (N,) int64.
        digests: sha256 of each file's pixels, hexadecimal, N of them.
    """

    images: Tensor
    rows: Tensor
    digests: tuple[str, ...]


def decode(root: Path, files: Sequence[ImageFile], side: int, folder: Path) -> Decoded:
    """Squares of all files, decoding those that the cache does not hold as they are now.

    Args:
        root: what the files' paths are relative to.
        files: at least one, each once.
        side: height and width of the squares, pixels: the shorter side is resized to it (bicubic), the middle is kept.
        folder: of the cache; made where it is not there.

    Raises:
        DataError: files that are no images, a cache that cannot be written, or one that was damaged.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock"):
            lines = _read(folder)
            held = _newest(lines, files)
            missing = [file for file in files if file not in held]
            if missing:
                free = 1 + max((line.row for line in lines), default=-1)
                _refuse(_decode_missing(root, missing, side, folder, free), root, len(files))
                held = _newest(_read(folder), files)
    except OSError as error:
        gigabytes = len(files) * 3 * side * side / 1e9
        raise DataError(
            f"cannot write decoded images to {folder} ({error.strerror or error}); they take {gigabytes:.1f} GB"
        ) from error
    lines = [held[file] for file in files]
    images = _opened(folder, side, 1 + max(line.row for line in lines))
    _verify(images, lines, folder)
    return Decoded(images, torch.tensor([line.row for line in lines]), tuple(line.digest for line in lines))


def _read(folder: Path) -> list[_Line]:
    """All lines, the oldest first; one that a kill cut short does not count."""
    lines = []
    with contextlib.suppress(FileNotFoundError):
        for text in (folder / JOURNAL).read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(TypeError, ValueError):
                lines.append(_Line(*json.loads(text)))
    return lines


def _newest(lines: Sequence[_Line], files: Sequence[ImageFile]) -> dict[ImageFile, _Line]:
    """The line of each file as it is now; nothing for files that have none."""
    journal = {line.path: line for line in lines}
    found = ((file, journal.get(file.path)) for file in files)
    return {file: line for file, line in found if line is not None and line[:3] == file}


def _decode_missing(root: Path, missing: Sequence[ImageFile], side: int, folder: Path, first_row: int) -> list[str]:
    """Decode block by block, side by side; the files that are no images, and why."""
    jobs = list(zip(missing, itertools.count(first_row)))
    blocks = [jobs[i : i + BLOCK] for i in range(0, len(jobs), BLOCK)]
    unreadable: list[str] = []
    images = os.open(folder / IMAGES, os.O_RDWR | os.O_CREAT, 0o666)
    pool = ThreadPoolExecutor(cores(), thread_name_prefix="decode")
    try:
        with (folder / JOURNAL).open("ab") as journal, _progress(len(missing)) as advance, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd EXIF entries and the like, which the pixels do not depend on
            for done in as_completed([pool.submit(_decode_block, root, block, side, images) for block in blocks]):
                lines, errors = done.result()
                unreadable += errors
                # Each line begins with its line break, which also ends a line that a kill has cut short.
                journal.write("".join(f"\n{json.dumps(line)}" for line in lines).encode())
                journal.flush()
                os.fsync(journal.fileno())
                advance(len(lines) + len(errors))
    finally:
        pool.shutdown(cancel_futures=True)
        os.close(images)
    return unreadable


def _refuse(unreadable: Sequence[str], root: Path, total: int) -> None:
    if unreadable:
        more = f" and {len(unreadable) - NAMED} more" if len(unreadable) > NAMED else ""
        raise DataError(
            f"{len(unreadable)} of {total} images under {root} cannot be read: "
            f"{', '.join(sorted(unreadable)[:NAMED])}{more}; repair or remove them, the others are kept decoded"
        )


def _decode_block(root: Path, block: Sequence[tuple[ImageFile, int]], side: int, images: int) -> _Block:
    lines, errors = [], []
    for file, row in block:
        try:
            pixels = square(root / file.path, side).tobytes()
        except Exception as error:  # each image format has exceptions of its own
            errors.append(f"{file.path} ({reason(error)})")
            continue
        os.pwrite(images, pixels, row * len(pixels))
        lines.append(_Line(*file, row, hashlib.sha256(pixels).hexdigest()))
    os.fsync(images)
    return _Block(lines, errors)


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal's standard error, nothing elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("decoding"), BarColumn(), MofNCompleteColumn(), TextColumn("images, left"))
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total)
        yield lambda count: bar.advance(task, count)


def _opened(folder: Path, side: int, count: int) -> Tensor:
    try:
        # Copy on write, since torch takes no read-only memory.
        pixels: Pixels = np.memmap(folder / IMAGES, np.uint8, mode="c", shape=(count, 3, side, side))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{folder / IMAGES} is not what was decoded ({error}); delete {folder} to decode anew"
        ) from error
    return torch.from_numpy(pixels)


def _verify(images: Tensor, lines: Sequence[_Line], folder: Path) -> None:
    """Compare every square with its digest, which reads everything once."""
    pixels = images.numpy()

    def differing(part: Sequence[_Line]) -> list[str]:
        return [line.path for line in part if hashlib.sha256(pixels[line.row]).hexdigest() != line.digest]

    parts = [lines[i : i + BLOCK] for i in range(0, len(lines), BLOCK)]
    with ThreadPoolExecutor(cores()) as pool:
        damaged = [path for paths in pool.map(differing, parts) for path in paths]
    if damaged:
        raise DataError(
            f"{folder / IMAGES} is not what was decoded ({len(damaged)} images differ, the first {damaged[0]}); "
            f"delete {folder} to decode anew"
        )
