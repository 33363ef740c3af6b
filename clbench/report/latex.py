"""Leaderboards as LaTeX tables: booktabs rules, siunitx columns that align numbers at their points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from clbench.metrics import Quantity
from clbench.report import wording
from clbench.report.board import Board, Cell, Line, broken

PREAMBLE = (r"Needs \usepackage{booktabs} and \usepackage{siunitx} (version 3) in the preamble",)
NUMBERS = r"\sisetup{separate-uncertainty, reset-text-series=false, text-series-to-math=true, mode=match}"
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


@dataclass(frozen=True)
class Sheet:
    """Boards with the same columns, which one table holds: the scenarios of a paper, one below the other."""

    boards: tuple[Board, ...]

    @property
    def heads(self) -> tuple[str, ...]:
        """Heads of all columns."""
        return self.boards[0].heads

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """What the numbers say, column by column."""
        return self.boards[0].quantities

    @property
    def caption(self) -> str:
        """Title and notes; notes that all boards share stand once."""
        if len(self.boards) == 1:
            return f"{self.boards[0].title}. {' '.join(self.boards[0].notes)}"
        notes = [dict.fromkeys(board.notes) for board in self.boards]
        common = [note for note in notes[0] if all(note in other for other in notes)]
        apart = {board.title: " ".join(note for note in board.notes if note not in common) for board in self.boards}
        told = [f"{title}: {text}" for title, text in apart.items() if text]
        return " ".join([f"{wording.count(len(self.boards), 'leaderboard')}.", *common, *told])


def together(boards: Sequence[Board]) -> list[Sheet]:
    """Boards with equal columns as one table, in the order of their first."""
    sheets: dict[tuple[str, ...], list[Board]] = {}
    for board in boards:
        sheets.setdefault(board.heads, []).append(board)
    return [Sheet(tuple(found)) for found in sheets.values()]


def latex_table(sheet: Sheet, number: int) -> str:
    r"""A ``table`` environment: caption above, label, booktabs rules, bounds ruled off, numbers in S columns.

    Args:
        sheet: what is printed.
        number: of the table in its report, so that labels differ.
    """
    formats = [_Format.of([line.cells[i] for line in _lines(sheet)]) for i in range(len(sheet.quantities))]
    extras = len(sheet.heads) - 1 - len(formats)
    lines = [
        r"\begin{table}",
        r"\centering",
        NUMBERS,
        r"\setlength{\belowcaptionskip}{6pt}",
        rf"\caption{{{escape(sheet.caption)}}}",
        rf"\label{{tab:{wording.slug(sheet.boards[0].title)}-{number}}}",
        r"\footnotesize",
        r"\setlength{\tabcolsep}{3pt}",
        rf"\begin{{tabular}}{{@{{}}l{''.join(map(str, formats))}{'r' * extras}@{{}}}}",
        r"\toprule",
        _head(sheet.heads),
        *(rf"\midrule{chr(10)}{_group(board, sheet, formats)}" for board in sheet.boards),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class _Format:
    """What room a column's numbers need: characters before and behind the point, of means and of intervals."""

    mean: tuple[int, int]
    half: tuple[int, int]
    signed: bool

    @classmethod
    def of(cls, cells: Sequence[Cell]) -> _Format:
        numbers = [cell for cell in cells if _is_number(cell)]
        means = [_digits(cell.mean) for cell in numbers] or [(1, 0)]
        halves = [_digits(cell.half) for cell in numbers if cell.half] or [(0, 0)]
        return cls(
            (max(a for a, _ in means), max(b for _, b in means)),
            (max(a for a, _ in halves), max(b for _, b in halves)),
            any(cell.mean.startswith("-") for cell in numbers),
        )

    def __str__(self) -> str:
        whole, fraction = self.mean
        wide = self.half[0] + self.half[1]
        spread = f"({wide})" if wide else ""
        return f"S[table-format={'-' * self.signed}{whole}.{fraction}{spread}]"


def _lines(sheet: Sheet) -> list[Line]:
    return [line for board in sheet.boards for group in board.groups for line in group]


def _is_number(cell: Cell) -> bool:
    return cell.mean[-1].isdigit()


def _digits(text: str) -> tuple[int, int]:
    whole, _, fraction = text.lstrip("-").partition(".")
    return len(whole), len(fraction)


def _head(heads: Sequence[str]) -> str:
    """Column heads over as many lines as the longest needs, all ending on the last one."""
    columns = [broken(head) for head in heads]
    height = max(map(len, columns))
    padded = [[""] * (height - len(lines)) + lines for lines in columns]
    # Braces keep siunitx from looking for numbers in words.
    rows = [" & ".join(f"{{{escape(lines[i])}}}" for lines in padded) for i in range(height)]
    return "\n".join(rf"{row} \\" for row in rows)


def _group(board: Board, sheet: Sheet, formats: Sequence[_Format]) -> str:
    """A board's rows, below its title where it is not alone."""
    rows = "\n\\midrule\n".join("\n".join(_row(line, formats) for line in group) for group in board.groups)
    if len(sheet.boards) == 1:
        return rows
    title = rf"\multicolumn{{{len(sheet.heads)}}}{{@{{}}l@{{}}}}{{\itshape {escape(board.title)}}} \\"
    return f"{title}\n\\addlinespace[2pt]\n{rows}"


def _row(line: Line, formats: Sequence[_Format]) -> str:
    # The fields that tell namesakes apart run on below the numbers: beside the name they would make the table too wide.
    name, _, fields = line.label.partition(" (")
    cells = [_cell(cell, form) for cell, form in zip(line.cells, formats, strict=True)]
    row = " & ".join([escape(name), *cells, *map(escape, line.extras)]) + r" \\"
    if not fields:
        return row
    span = 1 + len(line.cells) + len(line.extras)
    return f"{row}\n\\multicolumn{{{span}}}{{@{{}}l@{{}}}}{{\\quad\\scriptsize ({escape(fields)}}} \\\\"


def _cell(cell: Cell, form: _Format) -> str:
    if not _is_number(cell):
        return f"{{{escape(cell.mean)}}}"
    value = rf"{cell.mean} \pm {cell.half}" if cell.half else cell.mean
    fewer = escape(cell.fewer)
    if cell.place == 1:
        return rf"\bfseries {value}{fewer and rf' {{{fewer}}}'}"
    if cell.place == 2:
        # siunitx cannot underline a number that it aligns, so the room before it is made by hand.
        blank = form.mean[0] - _digits(cell.mean)[0] + (form.signed and not cell.mean.startswith("-"))
        return rf"{{{_phantom(blank)}\underline{{${value}$}}{fewer}}}"
    return f"{value}{fewer and rf' {{{fewer}}}'}"


def _phantom(digits: int) -> str:
    return rf"\phantom{{{'0' * digits}}}" if digits else ""
