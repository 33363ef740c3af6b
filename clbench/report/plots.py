"""Figures as files: one per block and kind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from clbench.errors import ClbenchError
from clbench.record import write_atomically
from clbench.report import wording
from clbench.report.entry import Reportable
from clbench.report.figures.catalogue import drawings
from clbench.report.figures.look import Skipped, written
from clbench.report.grouping import Block, blocks
from clbench.report.view import USUAL, View

LONGEST = 100  # characters of a block's part of a file's name


def write(reported: Reportable, folder: Path, formats: Sequence[str], view: View = USUAL) -> Iterator[str]:
    """Write all figures of all blocks, and say what was written and what was not drawn.

    Args:
        reported: runs that were found, or records of any kind; only evaluation runs that have come to an end are drawn.
        folder: made where it is missing; files of the same names are replaced.
        formats: of `clbench.report.figures.look.FORMATS`.
        view: what is shown of them.

    Yields:
        A line per file: its path; a line per figure that makes no sense: its name and the reason.

    Raises:
        ClbenchError: no such column or format, no evaluation run has come to an end, or nothing can be written.
    """
    grouped = blocks(reported, view)
    for block, name in zip(grouped, file_names(grouped), strict=True):
        yield block.title
        for figure, drawn in drawings(block, view).items():
            if isinstance(drawn, Skipped):
                yield f"  no figure {figure}: {drawn.reason}"
                continue
            for kind in formats:
                path = folder / f"{name}-{figure}.{kind}"
                _put(path, written(drawn, kind))
                yield f"  {path}"


def file_names(grouped: Sequence[Block]) -> list[str]:
    """What the files of each block begin with: its title as a file's name; numbered where titles are too much alike."""
    stems = [wording.slug(block.title)[:LONGEST].strip("-") for block in grouped]
    return [stem if stems.count(stem) == 1 else f"{stem}-{stems[: i + 1].count(stem)}" for i, stem in enumerate(stems)]


def _put(path: Path, content: bytes) -> None:
    try:
        write_atomically(path, content)
    except OSError as error:
        raise ClbenchError(f"cannot write {path}: {error.strerror}; name another folder with --output") from error
