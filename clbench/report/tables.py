"""Tables for papers and spreadsheets."""

from __future__ import annotations

from collections.abc import Sequence

from clbench.errors import ClbenchError
from clbench.report import wording
from clbench.report.board import Board, Cell, Line, board
from clbench.report.entry import Reportable, Runs, gathered
from clbench.report.grouping import blocks
from clbench.report.latex import PREAMBLE, latex_table, together
from clbench.report.view import USUAL, View

FORMATS = ("csv", "latex", "markdown")


def report(reported: Reportable, format: str, view: View = USUAL) -> str:
    """The evaluation runs as text in one of `FORMATS`.

    Args:
        reported: runs that were found, or records of any kind; tuning runs appear as tuning score and cost only,
            unfinished ones are left out.
        format: ``csv``, ``latex`` or ``markdown``.
        view: what is shown of them.

    Raises:
        ClbenchError: no such format or column, or no evaluation run has come to an end.
    """
    if format not in FORMATS:
        raise ClbenchError(f"format must be one of {', '.join(FORMATS)}, got {format!r}")
    if format == "csv":
        return to_csv(reported, view)
    runs = gathered(reported)
    boards = [board(block, view) for block in blocks(runs, view)]
    head = provenance(runs, view.command)
    return _latex(boards, head) if format == "latex" else _markdown(boards, head)


def to_csv(reported: Reportable, view: View = USUAL) -> str:
    """One line per group of seeds and metric, numbers in full precision.

    ``pandas.read_csv(..., engine="python")`` gives the very same floats back; the default engine of older versions
    of pandas may miss the last bit.

    Raises:
        ClbenchError: no evaluation run has come to an end.
    """
    # pandas is slow to import, and the other tables do without it.
    from clbench.report.frame import aggregated

    return str(aggregated(reported, view).to_csv(index=False, lineterminator="\n"))


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
