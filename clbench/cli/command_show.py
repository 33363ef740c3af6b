"""Show the card of a strategy, scenario, protocol, executor or tracker: what it is, needs, and was measured at."""

from __future__ import annotations

import argparse

from clbench.cli import command_list
from clbench.errors import ConfigError
from clbench.registry import Registry, unknown

EXAMPLES = """examples:
  clbench show strategy mos
  clbench show scenario cifar100
  clbench show protocol             what there is
"""


def run(words: list[str]) -> int:
    """Print one card, or the names of a kind.

    Raises:
        UnknownNameError: there is no such kind or plugin.
    """
    parser = argparse.ArgumentParser(
        prog="clbench show",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("kind", help=", ".join(command_list.PACKAGES))
    parser.add_argument("name", nargs="?", help="all names where it is left out")
    asked = parser.parse_args(words)
    registry = _registry(asked.kind)
    if asked.name is None:
        return command_list.run([asked.kind])
    registry.checked(asked.name)
    from rich.console import Console

    from clbench.cli import sheet

    sheet.show(asked.kind, asked.name, Console())
    return 0


def _registry(kind: str) -> Registry[object]:
    if kind in command_list.PACKAGES:
        return Registry[object](kind, command_list.PACKAGES[kind])
    for other, package in command_list.PACKAGES.items():
        if kind in Registry[object](other, package).names():
            raise ConfigError(f"{kind!r} is a {other}; say `clbench show {other} {kind}`")
    raise unknown("kind", kind, sorted(command_list.PACKAGES))
