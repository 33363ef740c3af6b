"""Numbers that others published, as tidy CSV: one row per number, with where it stands and how it was read.

The package ships none; `results/reported/` of the repository has those of the papers behind the suite, and its README
says what each column holds. A file of yours with the same columns is read in the same way.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clbench.errors import DataError

COLUMNS = (
    *("paper", "table", "scenario", "strategy", "model", "protocol", "metric"),
    *("value", "spread", "n", "source", "read_how", "note"),
)
OPTIONAL = ("spread", "n", "note")
"""Columns that may be empty."""


@dataclass(frozen=True)
class Conditions:
    """A name and fields that must have certain values: what a cell such as ``cifar224 increment=5`` asks of a run."""

    name: str
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class Reported:
    """One published number.

    Attributes:
        paper: arXiv number.
        table: of the paper, or another place in it.
        scenario, strategy, model, protocol: cells as `conditions` reads them.
        metric: a name in `clbench.metrics` where the definition is the same, else one of its own.
        value: in the metric's unit.
        rounding: half a unit of the last printed place of the value, plus what reading may have added to it.
        spread: sample standard deviation over seeds; None where none is printed.
        n: seeds; None where the paper does not say.
        source: where a reader finds the number.
        read_how: how it came here; where it ends in "within X", it may be off by X.
        note: what else a reader should know.
        path, line: of the file that it was read from, the header being line 1.
    """

    paper: str
    table: str
    scenario: str
    strategy: str
    model: str
    protocol: str
    metric: str
    value: float
    rounding: float
    spread: float | None
    n: int | None
    source: str
    read_how: str
    note: str
    path: Path
    line: int

    @property
    def place(self) -> str:
        """File and line, as messages name them."""
        return f"{self.path}:{self.line}"

    @property
    def key(self) -> tuple[str, ...]:
        """What no two rows share."""
        return (self.paper, self.table, self.scenario, self.strategy, self.model, self.protocol, self.metric)


def read(folder: Path) -> tuple[Reported, ...]:
    """The rows of every ``*.csv`` of a folder, or of one file, in the order of their names and lines.

    Raises:
        DataError: there is no such place, no such file, or a row that is not as `COLUMNS` has it; the message names
            file, line and what is wrong.
    """
    files = sorted(folder.glob("*.csv")) if folder.is_dir() else [folder]
    if not files or not files[0].is_file() or files[0].suffix != ".csv":
        raise DataError(f"no CSV of published numbers in {str(folder)!r}; name a .csv file or a folder that holds some")
    rows = [row for path in files for row in read_file(path)]
    seen: dict[tuple[str, ...], str] = {}
    for row in rows:
        if row.key in seen:
            raise DataError(f"{row.place}: the same number as {seen[row.key]}; keep one, or tell them apart by table")
        seen[row.key] = row.place
    return tuple(rows)


def read_file(path: Path) -> Iterator[Reported]:
    """The rows of one file; raises as `read` does."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            _check_header(path, reader.fieldnames or ())
            for cells in reader:
                yield _row(cells, path, reader.line_num)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not CSV in UTF-8 ({error})") from error


def conditions(cell: str) -> Conditions:
    """A cell's name and fields: words parted by spaces, the first the name, the others ``field=value``.

    Values are read as JSON (``5``, ``0.5``, ``true``, ``null``, ``[]``) and stay text where they are none.

    Raises:
        DataError: a word after the first has no ``=``.
    """
    name, *words = cell.split()
    odd = [word for word in words if not re.fullmatch(r"[\w.]+=.*", word)]
    if odd:
        raise DataError(f"{odd[0]!r} in {cell!r} is no field=value; write e.g. cifar224 increment=5")
    return Conditions(name, {field: _value(text) for field, text in (word.split("=", 1) for word in words)})


def _check_header(path: Path, header: object) -> None:
    found = list(header) if isinstance(header, (list, tuple)) else []
    unknown = [name for name in found if name not in COLUMNS]
    missing = [name for name in COLUMNS if name not in found]
    if unknown or missing or len(found) != len(COLUMNS):
        what = f"unknown column {unknown[0]!r}" if unknown else f"no column {missing[0]!r}" if missing else "one twice"
        raise DataError(f"{path}:1: {what}; the columns are {', '.join(COLUMNS)}")


def _row(cells: Mapping[str | None, Any], path: Path, line: int) -> Reported:
    place = f"{path}:{line}"
    if None in cells or None in cells.values():
        raise DataError(f"{place}: not {len(COLUMNS)} cells; put one that holds a comma into quotation marks")
    texts = {name: str(cells[name]).strip() for name in COLUMNS}
    for name in COLUMNS:
        if not texts[name] and name not in OPTIONAL:
            raise DataError(f"{place}: {name} is empty; every row says it")
    for name in ("scenario", "strategy", "model", "protocol"):
        try:
            conditions(texts[name])
        except DataError as error:
            raise DataError(f"{place}: {name}: {error}") from error
    parsed: dict[str, Any] = {
        "value": _number(texts["value"], "value", place),
        "rounding": _half_a_unit(texts["value"]) + _reading_error(texts["read_how"]),
        "spread": _number(texts["spread"], "spread", place, least=0) if texts["spread"] else None,
        "n": _count(texts["n"], place) if texts["n"] else None,
        "path": path,
        "line": line,
    }
    return Reported(**texts | parsed)


def _number(text: str, name: str, place: str, least: float = float("-inf")) -> float:
    if not re.fullmatch(r"[-+]?\d+(\.\d+)?", text) or float(text) < least:
        what = "a plain number" if least < 0 else f"a plain number of at least {least}"
        raise DataError(f"{place}: {name} must be {what}, as it is printed, e.g. 89.25; got {text!r}")
    return float(text)


def _count(text: str, place: str) -> int:
    if not re.fullmatch(r"[1-9]\d*", text):
        raise DataError(
            f"{place}: n must be a whole number of at least 1, or empty where it is not known; got {text!r}"
        )
    return int(text)


def _half_a_unit(text: str) -> float:
    return 0.5 * 10.0 ** -len(text.partition(".")[2])


def _reading_error(text: str) -> float:
    found = re.search(r"within (\d+(?:\.\d+)?)$", text)
    return float(found[1]) if found else 0.0


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
