"""Say for each scenario whether its data are there, and fetch what can be downloaded."""

from __future__ import annotations

import argparse
from pathlib import Path

from clbench.errors import ClbenchError


def run(words: list[str]) -> int:
    """Check scenarios with their default config; 1 where one is not ready."""
    parser = argparse.ArgumentParser(prog="clbench data", description=__doc__)
    parser.add_argument("scenario", nargs="*", help="only these; all where none is named")
    parser.add_argument("--root", type=Path, help="looked in first; then the folder that CLBENCH_DATA names")
    asked = parser.parse_args(words)
    from clbench.record import Part
    from clbench.scenario import scenarios

    ready = True
    for name in [scenarios.checked(name) for name in asked.scenario] or scenarios.names():
        try:
            scenario, config = scenarios.load(name)
            scenario(config(), asked.root).check(Part.WHOLE)
            print(f"{name:12} ready")
        except ClbenchError as error:
            ready = False
            print(f"{name:12} not ready: {error}")
    return 0 if ready else 1
