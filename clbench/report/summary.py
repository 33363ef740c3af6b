"""What is shown in the terminal: a leaderboard of many runs, or all about the runs of one strategy."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from clbench.metrics import METRICS, Quantity, interval, probe_scores
from clbench.record import Record, Setting
from clbench.report import heat, wording
from clbench.report.board import (
    ACCESS,
    HEAD_WIDTH,
    MISSING,
    Board,
    Cell,
    Line,
    board,
    broken,
    headlines,
    number,
)
from clbench.report.entry import Reportable, Runs, gathered
from clbench.report.grouping import Row, blocks
from clbench.report.quantities import COSTS, of_probes
from clbench.report.view import USUAL, View

WIDTH = 100  # characters of a line where there is room
LABEL = 18  # characters of a row's name that stay together where there is little room
ACCESS_WIDTH = len("cumulative")
PLACES = {1: "bold green", 2: "underline"}


def render(reported: Reportable, console: Console, view: View = USUAL) -> None:
    """Print one leaderboard per block of comparable runs.

    Args:
        reported: runs that were found, or records of any kind; tuning runs appear as tuning score and cost only,
            unfinished ones are left out.
        console: where to.
        view: what is shown of them.

    Raises:
        ClbenchError: no such column, or no evaluation run has come to an end.
    """
    runs = gathered(reported)
    for block in blocks(runs, view):
        shown = board(block, view)
        console.print(Text(shown.title, style="bold"))
        console.print(leaderboard(shown, console.width), crop=False)  # a narrow terminal breaks lines, none is lost
        console.print(Padding(Text("\n".join(shown.notes), style="dim"), (0, 0, 1, 1)))
    _print_left_out(runs, console)


def show_runs(records: Sequence[Record], console: Console, folder: Path) -> None:
    """Print all about the runs of one strategy: what `clbench run` ends with.

    Args:
        records: what a protocol returned.
        console: where to.
        folder: where the runs were written.

    Raises:
        ClbenchError: no evaluation run has come to an end.
    """
    runs = gathered(records)
    for block in blocks(runs, View(source=str(folder))):
        for row in block.rows:
            console.print(Rule(Text(row.label, style="bold"), align="left"))
            console.print(Text(block.title, style="dim"))
            console.print()
            console.print(_sheet(row))
    _print_left_out(runs, console)
    console.print(Text.assemble(("written to ", "dim"), str(folder)), soft_wrap=True)


def to_svg(reported: Reportable, view: View = USUAL) -> str:
    """The leaderboard of `render` as a picture that loads nothing from elsewhere; its title is the command.

    Raises:
        ClbenchError: no evaluation run has come to an end.
    """
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    render(reported, console, view)
    # rich refers to web fonts on a public server; the reader's own monospaced font serves as well.
    return re.sub(r"@font-face\s*\{.*?\}", "", console.export_svg(title=view.command), flags=re.DOTALL)


def leaderboard(shown: Board, room: int) -> Table:
    """The table for so many characters; one of many columns has spreads below their means."""
    stacked = _side_by_side(shown) > room
    table = Table(box=box.HORIZONTALS, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    longest = max(len(line.label) for group in shown.groups for line in group)
    least = min(longest, LABEL if room >= WIDTH else LABEL // 2)
    table.add_column("Strategy", overflow="fold", vertical="top", min_width=max(len("Strategy"), least))
    width = HEAD_WIDTH - stacked
    for quantity in shown.quantities:
        table.add_column("\n".join(broken(quantity.label, width)), justify="right", no_wrap=True)
    for head in shown.extras:
        table.add_column(
            "\n".join(broken(head, width)),
            justify="right",
            style="dim",
            header_style="dim",
            no_wrap=head != ACCESS,
            overflow="fold",
            min_width=ACCESS_WIDTH if head == ACCESS else None,
            max_width=ACCESS_WIDTH if head == ACCESS else None,
        )
    for group in shown.groups:
        for line in group:
            table.add_row(*_leaderboard_line(line, stacked))
        table.add_section()
    return table


def _side_by_side(shown: Board) -> int:
    """Characters that the table takes where spreads stand beside their means."""
    lines = [line for group in shown.groups for line in group]
    label = min(max(len(line.label) for line in lines), LABEL)
    cells = [
        max(len(f"{c.mean} ± {c.half}{c.fewer}") for c in column)
        for column in zip(*(x.cells for x in lines), strict=True)
    ]
    extras = [ACCESS_WIDTH if head == ACCESS else max(map(len, broken(head))) for head in shown.extras]
    return sum(width + 1 for width in (max(label, len("Strategy")), *cells, *extras))


def _leaderboard_line(line: Line, stacked: bool) -> list[RenderableType]:
    return [Text(line.label), *(_leaderboard_cell(cell, stacked) for cell in line.cells), *line.extras]


def _leaderboard_cell(cell: Cell, stacked: bool) -> Text:
    text = f"{cell.mean}{chr(10) if stacked else ' '}± {cell.half}" if cell.half else cell.mean
    return Text(text + cell.fewer, style=PLACES.get(cell.place, ""))


def _sheet(row: Row) -> Group:
    return Group(
        Text(
            "Accuracy (%) after so many experiences (rows) on each of them (columns), "
            f"mean of {wording.count(len(row.records), 'seed')}"
        ),
        Padding(heat.matrix(row.whole()), (0, 0, 1, 1)),
        Padding(_figures(row), (0, 0, 1, 1)),
        Padding(_hyperparameters(row), (0, 0, 1, 1)),
    )


def _figures(row: Row) -> Table:
    table = Table.grid(padding=(0, 3))
    table.add_column(style="dim")
    table.add_column(justify="right")
    table.add_column(style="dim")
    for name in filter(METRICS.__contains__, headlines(row)):
        value = row.interval(name)
        spread = f"[{number(value.low)}, {number(value.high)}] 95 % interval, n = {value.n}" if value.n > 1 else "n = 1"
        table.add_row(METRICS[name].label, Text(f"{number(value.mean)} {METRICS[name].unit}", "bold"), Text(spread))
    for name, quantity in of_probes(row.probed).items():
        table.add_row(f"{quantity.title} at the end", *_probe(row, name.removeprefix("probe."), quantity))
    for name, cost in COSTS.items():
        table.add_row(cost.title, amount(row.interval(name).mean, cost.unit), "per run, mean")
    diverged = f", {wording.count(row.diverged, 'run')} diverged and at chance" if row.diverged else ""
    if row.records[0].setting is Setting.EDITING:
        table.add_row("Access to the past", Text(row.records[0].access, "bold"), _stream(row.entries[0].whole()))
    table.add_row("Seeds", "", wording.seeds(row.seeds) + diverged)
    return table


def _stream(record: Record) -> str:
    """How many edits there were and what blurs them, and how sure a share of those that were asked about is."""
    told = record.notes.get("stream", {})
    asked, edits = told.get("asked", 0), told.get("edits", 0)
    blurred = [f"{told[name]} {name}" for name in ("repeated", "contradicting", "leaking") if told.get(name)]
    sure = [f"asked about {asked} of them: +- {number(98 / math.sqrt(asked))} points at most (95 %)"] * (asked < edits)
    return ", ".join([wording.count(edits, "edit"), *blurred, *sure])


def _probe(row: Row, name: str, quantity: Quantity) -> tuple[Text, str]:
    """What is left of an ability, and what it was."""
    before = interval([float(probe_scores(record, name)[0]) for record in row.whole()]).mean
    after = row.interval(f"probe.{name}").mean
    kept = row.records[0].setting is not Setting.EDITING
    told = ", ".join(["perplexity"] * (not quantity.unit) + ["never trained here"] * kept)
    shown = f"{number(before)} before{'; ' if told else ''}{told}"
    return Text(f"{number(after)} {quantity.unit}".rstrip(), "bold"), shown


def _hyperparameters(row: Row) -> Group:
    record = row.records[0]
    adapter = record.model_config.get("adapter", {})
    shown = record.strategy_config | ({"adapter": adapter} if adapter.get("rank") else {})
    values = " ".join(f"{name}={short(value)}" for name, value in wording.flat(shown).items())
    return Group(Text(choice(row), style="bold"), Padding(Text(values), (0, 0, 0, 1)))


def short(value: object) -> str:
    """A config's value for people: numbers to four digits, the rest as it is typed on the command line."""
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def choice(row: Row) -> str:
    """How a row's hyper-parameters were chosen, in one line."""
    selection = row.records[0].selection
    if selection.tuning_score is None:
        return "Hyper-parameters as given, not tuned"
    return (
        f"Hyper-parameters by {selection.by}: best {selection.criterion} on the tuning half, "
        f"{number(row.tuning_score)}, of {wording.budget(row.records[0])}"
    )


def amount(value: float, unit: str) -> str:
    """A cost for people: seconds as they are, bytes and parameters in thousands, millions or billions of them."""
    if math.isnan(value):
        return MISSING
    if unit == "s":
        return f"{value:,.1f} s"
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.1f} {prefix}{unit}"
    return f"{value:.0f} {unit}".rstrip()


def _print_left_out(runs: Runs, console: Console) -> None:
    for sentence in runs.left_out:
        console.print(Text(sentence, style="yellow"), soft_wrap=True)
