"""Folders of images, one folder per class: what is in them, and as tables.

``<root>/train/<class>/...`` and ``<root>/test/<class>/...`` (or ``val``), images at any depth below a class's folder. A
class's number is the place of its folder's name among all, sorted as strings ('10' comes before '4'), as torchvision's
``ImageFolder`` has it.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from clbench.errors import DataError
from clbench.images.decode import ImageFile, decode
from clbench.table import Source, Table, fits

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
TRAIN, TEST = ("train", "training"), ("test", "val", "valid", "validation")
"""Names of the two folders, the first that is there and holds folders."""


@dataclass(frozen=True)
class ImageFolder:
    """What is on the disk, nothing of it read yet.

    Attributes:
        root: what files are relative to.
        classes: names, by class number.
        train: files of each class.
        test: files of each class.
    """

    root: Path
    classes: tuple[str, ...]
    train: tuple[tuple[ImageFile, ...], ...]
    test: tuple[tuple[ImageFile, ...], ...]


def split_folders(root: Path) -> tuple[Path, Path]:
    """The training and the test folder.

    Raises:
        DataError: one of them is not there.
    """
    if not root.is_dir():
        raise DataError(f"no folder {str(root)!r}")
    found = []
    for names in (TRAIN, TEST):
        holding = [root / name for name in names if class_folders(root / name)]
        if not holding:
            raise DataError(f"{root} holds no folder {names[0]} with a folder per class (tried: {', '.join(names)})")
        found.append(holding[0])
    return found[0], found[1]


def class_folders(folder: Path) -> list[str]:
    """Names of the folders in ``folder``, sorted as strings; none where there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(e.name for e in os.scandir(folder) if e.is_dir() and not e.name.startswith("."))


def listed(root: Path, classes: Sequence[str] | None = None) -> ImageFolder:
    """All files of the classes.

    Args:
        root: holds the training and the test folder.
        classes: names of class folders, by class number; all that are there, sorted, where None.

    Raises:
        DataError: a folder is missing, or a class without an image in training or test.
    """
    train, test = split_folders(root)
    names = tuple(class_folders(train) if classes is None else classes)
    unknown = [] if classes is not None else [n for n in class_folders(test) if n not in set(names)]
    if unknown:
        raise DataError(f"{test} has classes that {train} lacks: {shown(unknown)}")
    files = []
    for split in (train, test):
        found = tuple(tuple(_images(split / name, root)) for name in names)
        empty = [name for name, images in zip(names, found, strict=True) if not images]
        if empty:
            raise DataError(f"{split} has no image of {len(empty)} of {len(names)} classes: {shown(empty)}")
        files.append(found)
    return ImageFolder(root, names, files[0], files[1])


def shown(names: Sequence[str]) -> str:
    """The first few names."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _images(folder: Path, root: Path) -> Iterator[ImageFile]:
    if not folder.is_dir():
        return
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name.startswith("."):
            continue  # also macOS's "._name.jpg", which are no images
        if entry.is_dir():
            yield from _images(Path(entry.path), root)
        elif entry.name.lower().endswith(SUFFIXES):
            status = entry.stat()
            yield ImageFile(Path(entry.path).relative_to(root).as_posix(), status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=2)
def load(folder: ImageFolder, side: int, device: str) -> tuple[Table, Table, str]:
    """Training and test table of all classes, decoded where they have not been before.

    The images are copied to a GPU where they fit. Elsewhere they stay memory-mapped: processes share them.

    Args:
        folder: what to load.
        side: height and width that images are stored in, pixels.
        device: where batches are wanted.

    Returns:
        Two tables, columns ``image`` (N, 3, side, side) uint8 and ``label`` (N,) int64; a digest of both.

    Raises:
        DataError: files that are no images, or a cache that cannot be used.
    """
    splits = (folder.train, folder.test)
    files = [file for split in splits for images in split for file in images]
    labels = torch.tensor([label for split in splits for label, images in enumerate(split) for _ in images])
    decoded = decode(folder.root, files, side, _cache(folder.root) / f"squares-{side}")
    trained = sum(map(len, folder.train))
    train, test = (
        _table(decoded.images, decoded.rows[part], labels[part], device)
        for part in (slice(trained), slice(trained, None))
    )
    text = f"{side} {trained} {labels.tolist()} {' '.join(decoded.digests)}"
    return train, test, hashlib.sha256(text.encode()).hexdigest()


def _table(images: Tensor, rows: Tensor, labels: Tensor, device: str) -> Table:
    if torch.device(device).type == "cpu" or not fits(len(rows) * images[0].numel(), device):
        return mapped(images, rows, labels, device)
    return resident(images, rows, labels, device)


def mapped(images: Tensor, rows: Tensor, labels: Tensor, device: torch.device | str) -> Table:
    """Some rows of memory-mapped images, left where they are.

    After a first decoding the rows follow each other, and the source is these rows and no more. Rows between them that
    do not belong to them, of files that have changed or gone, have label 0; no table holds them.

    Args:
        images: (M, C, H, W) uint8.
        rows: (N,) int64.
        labels: of those rows, (N,) int64.
        device: where batches are delivered.
    """
    first, last = int(rows.min()), int(rows.max())
    rows = rows - first
    every = torch.zeros(last - first + 1, dtype=torch.int64)
    every[rows] = labels
    in_order = len(rows) == len(every) and torch.equal(rows, torch.arange(len(rows)))
    layout = "" if in_order else hashlib.sha256(str(rows.tolist()).encode()).hexdigest()
    return Table(Source({"image": images[first : last + 1], "label": every}, device, mapped=True, layout=layout), rows)


def resident(images: Tensor, rows: Tensor, labels: Tensor, device: torch.device | str) -> Table:
    """Some rows of memory-mapped images, copied to a device a part at a time.

    Args:
        images: (M, C, H, W) uint8.
        rows: (N,) int64.
        labels: of those rows, (N,) int64.
        device: where they go.
    """
    copy = torch.empty((len(rows), *images.shape[1:]), dtype=torch.uint8, device=device)
    for there, part in zip(copy.split(1024), rows.split(1024), strict=True):
        there.copy_(images.index_select(0, part))
    return Table(Source({"image": copy, "label": labels}, device))


def _cache(root: Path) -> Path:
    """Beside the data, or in the user's cache where the data cannot be written to."""
    if os.access(root, os.W_OK):
        return root / "clbench-cache"
    name = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]
    folder = Path(os.environ.get("CLBENCH_CACHE") or Path.home() / ".cache" / "clbench")
    return folder / f"{root.name}-{name}"
