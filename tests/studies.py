"""The measured studies, and what their runs need to be made again."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from clbench import record
from clbench.again import run_of
from clbench.errors import CheckpointError, DataError, IncompatibleError
from clbench.models.llama2c import convert
from clbench.run import Run
from clbench.scenario import Stream

ROOT = Path(__file__).parent.parent
STUDIES = sorted(path.parent.relative_to(ROOT) for path in (ROOT / "results" / "measured").rglob("runs"))


def streams(study: Path, output: Path) -> Iterator[tuple[Run, str]]:
    """A run for each stream that the study's runs learnt, and the digest that was recorded; by seed."""
    found = {}
    for one in record.find([ROOT / study / "runs"]):
        run = run_of(one, output)
        found[one.seed, repr(run.handle()), one.data_digest] = run
    for (_, _, digest), run in sorted(found.items(), key=lambda item: item[0]):
        yield run, digest


@contextlib.contextmanager
def here(folder: Path) -> Iterator[None]:
    """As if in the checkout's root, with the converted stories260K in it where its weights are at hand."""
    data = os.environ.get("CLBENCH_DATA")
    begun = (folder / "results").exists()
    if not begun:
        (folder / "results").symlink_to(ROOT / "results")
    if not begun and data and (Path(data) / "weights" / "stories260K.pt").exists():
        weights = Path(data) / "weights"
        convert(weights / "stories260K.pt", weights / "tok512.json", folder / "stories260K")
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@contextlib.contextmanager
def at_hand() -> Iterator[None]:
    """Skips the test where data or weights are missing."""
    try:
        yield
    except (DataError, CheckpointError, IncompatibleError) as error:
        pytest.skip(str(error))


def opened(run: Run) -> Stream:
    """The run's stream; the test is skipped where data or weights are missing."""
    with at_hand():
        return run.handle().open(run.seed)
