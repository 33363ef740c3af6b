"""Tables for papers and spreadsheets."""

from __future__ import annotations

from collections.abc import Sequence

from clbench.errors import ClbenchError
from clbench.report import wording
from clbench.report.board import Board, Bounds, Cell, Line, board
from clbench.report.contest import Bold
from clbench.report.entry import Reportable, Runs, gathered
from clbench.report.grouping import blocks
from clbench.report.latex import PREAMBLE, latex_table, together

FORMATS = ("csv", "latex", "markdown")


def report(
    reported: Reportable,
    format: str,
    *,
    upper_bound: str = "joint",
    lower_bound: str = "naive",
    columns: Sequence[str] = (),
    bold: Bold = Bold.BEST,
    source: str = "these records",
    command: str = "clbench report",
) -> str:
    """The evaluation runs as text in one of `FORMATS`.

    Args:
        reported: runs that were found, or records of any kind; tuning runs appear as tuning score and cost only,
            unfinished ones are left out.
        format: ``csv``, ``latex`` or ``markdown``.
        upper_bound: name of the strategy that is ruled off below and that intransigence is measured against.
        lower_bound: name of the strategy that is ruled off above.
        columns: metrics, or ``intransigence``, that Markdown and LaTeX show; CSV has all of them.
        bold: what stands in bold.
        source: where the records came from, for the message.
        command: what made the report, for its head.

    Raises:
        ClbenchError: no such format or column, or no evaluation run has come to an end.
    """
    if format not in FORMATS:
        raise ClbenchError(f"format must be one of {', '.join(FORMATS)}, got {format!r}")
    if format == "csv":
        return to_csv(reported, upper_bound, source)
    runs = gathered(reported)
    grouped = blocks(runs, upper_bound, source)
    boards = [board(block, Bounds(upper_bound, lower_bound), columns, bold) for block in grouped]
    head = provenance(runs, command)
    return _latex(boards, head) if format == "latex" else _markdown(boards, head)


def to_csv(reported: Reportable, upper_bound: str = "joint", source: str = "these records") -> str:
    """One line per group of seeds and metric, numbers in full precision.

    ``pandas.read_csv(..., engine="python")`` gives the very same floats back; the default engine of older versions
    of pandas may miss the last bit.

    Raises:
        ClbenchError: no evaluation run has come to an end.
    """
    # pandas is slow to import, and the other tables do without it.
    from clbench.report.frame import aggregated

    return str(aggregated(reported, upper_bound, source).to_csv(index=False, lineterminator="\n"))


def provenance(runs: Runs, command: str) -> list[str]:
    """What made the report, from what, and what it leaves out."""
    made = wording.commits(entry.record for entry in runs.entries)
    reported = f"From {wording.count(len(runs.entries), 'evaluation run')}, commit {', '.join(made)}"
    return [f"Made by: {command}", reported, *runs.left_out]


def _latex(boards: Sequence[Board], head: Sequence[str]) -> str:
    comments = [*head, *PREAMBLE]
    lines = [f"% {line}" for text in comments for line in text.splitlines()]
    return "\n".join(lines) + "\n\n" + "\n".join(latex_table(b, i + 1) for i, b in enumerate(together(boards)))


def _markdown(boards: Sequence[Board], head: Sequence[str]) -> str:
    return "\n\n".join([*(_markdown_table(b) for b in boards), *(f"*{_markdown_text(line)}.*" for line in head)]) + "\n"


def _markdown_table(board: Board) -> str:
    lines = [list(board.heads), ["---", *["---:"] * (len(board.heads) - 1)]]
    lines += [_markdown_line(line) for group in board.groups for line in group]
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"### {_markdown_text(board.title)}\n\n{body}\n\n{_markdown_text(' '.join(board.notes))}"


def _markdown_line(line: Line) -> list[str]:
    return [_markdown_text(line.label), *map(_markdown_cell, line.cells), *line.extras]


def _markdown_cell(cell: Cell) -> str:
    text = f"{cell.mean} ± {cell.half}" if cell.half else cell.mean
    marked = {1: f"**{text}**", 2: f"<u>{text}</u>"}.get(cell.place, text)
    return marked + _markdown_text(cell.fewer)


def _markdown_text(text: str) -> str:
    """Names as they are, not as markup."""
    for character in "\\|*_<":
        text = text.replace(character, f"\\{character}")
    return text
