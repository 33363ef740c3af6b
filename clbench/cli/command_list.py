"""List the scenarios, strategies, protocols, executors and trackers that can be named."""

from __future__ import annotations

import argparse

from clbench.registry import Registry

PACKAGES = {
    "scenario": "clbench.scenarios",
    "strategy": "clbench.strategies",
    "protocol": "clbench.protocols",
    "executor": "clbench.executors",
    "tracker": "clbench.trackers",
}


def run(words: list[str]) -> int:
    """Print names and summaries; imports none of the files."""
    parser = argparse.ArgumentParser(prog="clbench list", description=__doc__)
    parser.add_argument("kind", nargs="?", choices=sorted(PACKAGES), help="only these")
    asked = parser.parse_args(words)
    for kind, package in PACKAGES.items():
        if asked.kind in (None, kind):
            registry = Registry[object](kind, package)
            for name in registry.names():
                print(f"{kind:9} {name:12} {registry.summary(name)}")
    return 0
