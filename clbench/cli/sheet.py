"""A card in the terminal."""

from __future__ import annotations

import re

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from clbench.cli.card import NO_RESULTS, RESULTS, Card, Measured, Published, card, measured, published
from clbench.cli.fields import Key
from clbench.report.summary import leaderboard

SHOWN = 12  # published numbers in the terminal


def show(kind: str, name: str, console: Console) -> None:
    """Print all about one plugin.

    Raises:
        ClbenchError: there is no such plugin, or it needs a package that is not installed.
    """
    shown = card(kind, name)
    console.print(Rule(Text.assemble((f"{kind} ", "dim"), (name, "bold")), align="left"))
    _text(shown.certificate, console)
    if shown.facts:
        console.print(_facts(shown))
    _head("What can be set", console)
    console.print(_keys(shown.keys) if shown.keys else Text("nothing", style="dim"))
    if kind in ("strategy", "scenario", "protocol"):
        _results(kind, name, console)
    _head("Run it", console)
    console.print(Text(shown.command), soft_wrap=True)
    console.print(Text(f"clbench run {kind}={name} --help", style="dim"), soft_wrap=True)


def _head(text: str, console: Console) -> None:
    console.print()
    console.print(Text(text, style="bold"))


def _text(certificate: str, console: Console) -> None:
    """Paragraphs as wide as the terminal; what is indented, formulas and lists, as it stands."""
    title, _, rest = certificate.partition("\n")
    console.print(Text(title, style="bold"))
    for paragraph in re.split(r"\n\s*\n", rest.strip("\n")):
        kept = any(line.startswith((" ", "- ")) for line in paragraph.splitlines())
        text = Text(paragraph if kept else " ".join(paragraph.split()), no_wrap=False)
        text.highlight_regex(r"``[^`]+``|`[^`]+`", "cyan")
        console.print()
        console.print(text)
    console.print()


def _facts(shown: Card) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    for about, words in shown.facts:
        table.add_row(about, words)
    return table


def _keys(found: tuple[Key, ...]) -> Table:
    table = Table(box=box.HORIZONTALS, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("Key", overflow="fold")
    table.add_column("Default", overflow="fold")
    table.add_column("Meaning", overflow="fold", ratio=1)
    for key in found:
        table.add_row(Text(key.name), Text(key.default), _meaning(key))
    return table


def _meaning(key: Key) -> Text:
    kind = ", ".join(key.choices) if key.choices else key.type
    searched = f"; searched: {key.range}" if key.range else ""
    return Text.assemble(key.text, (f"  [{kind}{searched}]", "dim"))


def _results(kind: str, name: str, console: Console) -> None:
    _head("Measured", console)
    if not RESULTS.is_dir():
        console.print(Text(NO_RESULTS, style="dim"))
        return
    found = measured(kind, name)
    for one in found:
        _measured(one, console)
    if not found:
        console.print(
            Text(f"not yet; `clbench run {kind}={name}` measures, `clbench report` makes tables", style="dim")
        )
    told = published(name) if kind == "strategy" else None
    if told is not None:
        _head("Reported", console)
        _published(told, console)


def _measured(one: Measured, console: Console) -> None:
    console.print(Text(one.board.title))
    console.print(leaderboard(one.board, console.width), crop=False)
    console.print(Padding(Text(f"results/{one.study}", style="dim"), (0, 0, 1, 0)))


def _published(told: Published, console: Console) -> None:
    table = Table(box=box.HORIZONTALS, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    for head in told.heads:
        table.add_column(head.replace("_", " ").capitalize(), overflow="fold")
    for row in told.rows[:SHOWN]:
        table.add_row(*row)
    console.print(table)
    left = len(told.rows) - SHOWN
    more = f"and {left} more; " if left > 0 else ""
    console.print(Text(f"{more}{told.source}", style="dim"))
