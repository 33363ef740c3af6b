"""One leaderboard as a LaTeX table with booktabs rules."""

from __future__ import annotations

from collections.abc import Sequence

from clbench.report import wording
from clbench.report.board import Board, Cell, Line, broken

ESCAPES = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "†": r"$\dagger$",
    "\N{EN DASH}": "--",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def escape(text: str) -> str:
    """Plain text as LaTeX that prints it."""
    return "".join(ESCAPES.get(character, character) for character in text)


def latex_table(board: Board, number: int) -> str:
    r"""A ``table`` environment: caption above, label, booktabs rules, bounds ruled off.

    Args:
        board: what is printed.
        number: of the table in its report, so that labels differ.
    """
    groups = "\n\\midrule\n".join("\n".join(map(_row, group)) for group in board.groups)
    lines = [
        r"\begin{table}",
        r"\centering",
        r"\setlength{\belowcaptionskip}{6pt}",
        rf"\caption{{{escape(f'{board.title}. ' + ' '.join(board.notes))}}}",
        rf"\label{{tab:{wording.slug(board.title)}-{number}}}",
        r"\footnotesize",
        r"\setlength{\tabcolsep}{3pt}",
        rf"\begin{{tabular}}{{@{{}}l{'r' * (len(board.heads) - 1)}@{{}}}}",
        r"\toprule",
        _head(board.heads),
        r"\midrule",
        groups,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _head(heads: Sequence[str]) -> str:
    """Column heads over as many lines as the longest needs, all ending on the last one."""
    columns = [broken(head) for head in heads]
    height = max(map(len, columns))
    padded = [[""] * (height - len(lines)) + lines for lines in columns]
    rows = [" & ".join(escape(lines[i]) for lines in padded) for i in range(height)]
    return "\n".join(rf"{row} \\" for row in rows)


def _row(line: Line) -> str:
    # The fields that tell namesakes apart run on below the numbers: beside the name they would make the table too wide.
    name, _, fields = line.label.partition(" (")
    row = " & ".join([escape(name), *map(_cell, line.cells), *map(escape, line.extras)]) + r" \\"
    if not fields:
        return row
    span = 1 + len(line.cells) + len(line.extras)
    return f"{row}\n\\multicolumn{{{span}}}{{@{{}}l@{{}}}}{{\\quad\\scriptsize ({escape(fields)}}} \\\\"


def _cell(cell: Cell) -> str:
    if not cell.mean[-1].isdigit():
        return escape(cell.mean)
    value = rf"{cell.mean} \pm {cell.half}" if cell.half else cell.mean
    marked = {1: rf"$\mathbf{{{value}}}$", 2: rf"\underline{{${value}$}}"}.get(cell.place, f"${value}$")
    return marked + escape(cell.fewer)
