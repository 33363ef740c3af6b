"""Where data are looked for, and kept, on this machine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from clbench.errors import DataError


def places(root: Path | None) -> list[Path]:
    """Where data are looked for: ``data.root``, then the folder that ``CLBENCH_DATA`` names."""
    shared = os.environ.get("CLBENCH_DATA")
    return [folder for folder in (root, Path(shared) if shared else None) if folder is not None]


def cache_folder(kind: str) -> Path:
    """Where what can be computed again is kept: ``CLBENCH_CACHE/KIND``, else ``~/.cache/clbench/KIND``."""
    return Path(os.environ.get("CLBENCH_CACHE") or Path.home() / ".cache" / "clbench") / kind


def text_folder(root: Path | None, names: Sequence[str]) -> Path:
    """The folder of a suite of text tasks: ``text/NAME/`` or ``NAME/`` in one of the `places`.

    Args:
        root: ``data.root``.
        names: that the folder may have.

    Raises:
        DataError: there is none.
    """
    searched = places(root)
    for place in searched:
        for name in names:
            for folder in (place / "text" / name, place / name):
                if folder.is_dir():
                    return folder
    where = " or ".join(map(str, searched)) or "data.root (not given) or CLBENCH_DATA (not set)"
    raise DataError(
        f"no folder text/{names[0]}/ or {names[0]}/ under {where}; put the tasks there and name the folder that holds "
        "it: data.root=FOLDER"
    )


def find_file(root: Path | None, path: Path, folders: Sequence[str] = ()) -> Path:
    """A file, looked for from here, then in the `places`.

    Args:
        root: ``data.root``.
        path: of the file.
        folders: of the places in which it may be as well.

    Raises:
        DataError: it is in none of them.
    """
    path = path.expanduser()
    for place in (Path(), *places(root)):
        for folder in (place, *(place / name for name in folders)):
            if (folder / path).is_file():
                return folder / path
    where = ", ".join(map(str, ("here", *places(root))))
    hint = "name one that is there"
    if folders:
        hint = f"put it into {folders[0]}/ below data.root=FOLDER, or below the folder that CLBENCH_DATA names"
    raise DataError(f"no file {str(path)!r} (looked from: {where}); {hint}")
