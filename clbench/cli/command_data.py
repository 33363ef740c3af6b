"""Say for each scenario whether its data are there, and fetch what can be downloaded."""

from __future__ import annotations

import argparse
import shutil
import textwrap
from pathlib import Path

from clbench.errors import ClbenchError


def run(words: list[str]) -> int:
    """Check scenarios with their default config; 1 where one that is named is not ready."""
    parser = argparse.ArgumentParser(prog="clbench data", description=__doc__)
    parser.add_argument("scenario", nargs="*", help="only these, and exit with 1 where one is not ready; else all")
    parser.add_argument("--root", type=Path, help="looked in first; then the folder that CLBENCH_DATA names")
    asked = parser.parse_args(words)
    from clbench.scenario import scenarios

    names = [scenarios.checked(name) for name in asked.scenario] or scenarios.names()
    width = max(map(len, names))
    missing = 0
    for name in names:
        lacking = _lacking(name, asked.root)
        missing += bool(lacking)
        print(_line(f"{name:{width}}  {'not ready' if lacking else 'ready':9}  ", lacking), flush=True)
    return 1 if asked.scenario and missing else 0


def _lacking(name: str, root: Path | None) -> str:
    """Why a scenario cannot be opened as it comes; empty where it can."""
    from clbench.record import Part
    from clbench.scenario import scenarios

    try:
        scenario, config = scenarios.load(name)
        scenario(config(), root).check(Part.WHOLE)
    except ClbenchError as error:
        return str(error)
    return ""


def _line(head: str, lacking: str) -> str:
    """A line of the table; what is missing is broken below its own beginning."""
    room = max(shutil.get_terminal_size().columns, len(head) + 40)
    lines = textwrap.wrap(lacking, room - len(head), break_long_words=False, break_on_hyphens=False)
    return f"\n{' ' * len(head)}".join([head + "".join(lines[:1]), *lines[1:]]).rstrip()
