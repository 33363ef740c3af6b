"""Rows of JSON files or of the Hugging Face hub, each knowing where it stands, so that errors can say it in one line.

Files are UTF-8; rows and lines are counted from 1.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clbench.errors import ConfigError, DataError

END_OF_TEXT = "<|endoftext|>"


@dataclass(frozen=True)
class Row:
    """One JSON object.

    Attributes:
        place: for messages, e.g. ``train.json, row 3``.
        values: by field.
    """

    place: str
    values: Mapping[str, Any]

    def text(self, field: str) -> str:
        """A field's one text; numbers and truth values as text.

        Raises:
            DataError: the row lacks the field, or it holds something else.
        """
        return self._text(field, self._value(field))

    def texts(self, field: str) -> tuple[str, ...]:
        """A field's text, or its list of texts, of which there is at least one.

        Raises:
            DataError: the row lacks the field, or it holds something else.
        """
        value = self._value(field)
        if value == []:
            raise DataError(f"{self.place}: field {field!r} is an empty list; at least one text was expected")
        return tuple(self._text(field, each) for each in (value if isinstance(value, list) else [value]))

    def _value(self, field: str) -> Any:
        if field not in self.values:
            there = ", ".join(map(str, self.values)) or "none"
            raise DataError(f"{self.place} lacks the field {field!r}; its fields: {there}. Name the one that is meant")
        return self.values[field]

    def _text(self, field: str, value: Any) -> str:
        if not isinstance(value, str | int | float):
            raise DataError(f"{self.place}: field {field!r} must hold text, got {value!r:.60}")
        return str(value)


def read_object(path: Path) -> dict[str, Any]:
    """The one object that a file holds.

    Raises:
        DataError: the file cannot be read or holds something else.
    """
    value = _parsed(_read(path), path)
    if not isinstance(value, dict):
        raise DataError(f"{path} holds a JSON {type(value).__name__}; an object with the task's rows was expected")
    return value


def holds_object(path: Path, fields: Collection[str]) -> bool:
    """Whether a file is one object with one of these fields, and neither a list nor an object per line.

    Raises:
        DataError: the file cannot be read.
    """
    text = _read(path)
    if not text.lstrip().startswith("{"):
        return False
    try:
        return not set(fields).isdisjoint(json.loads(text))
    except json.JSONDecodeError:
        return False


def read_rows(path: Path) -> list[Row]:
    """The rows of a file: a JSON list of objects, or one object per line (blank lines are skipped).

    Raises:
        DataError: the file cannot be read, or a line or row is no object.
    """
    text = _read(path)
    if not text.strip():
        raise DataError(f"{path} is empty; a JSON list of objects, or one object per line, was expected")
    if text.lstrip().startswith("["):
        return checked(_parsed(text, path), f"{path}, row")
    # str.splitlines would also cut at line separators that may stand inside a JSON string.
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    return [_row(_parsed(line, path, number), f"{path}, line {number}") for number, line in lines]


def read_texts(path: Path) -> list[str]:
    """Plain texts of one file, parted by ``<|endoftext|>``, without white space at their ends.

    Raises:
        DataError: the file cannot be read or holds no text.
    """
    texts = [text.strip() for text in _read(path).split(END_OF_TEXT) if text.strip()]
    if not texts:
        raise DataError(f"{path} is empty; a text, or texts parted by {END_OF_TEXT}, was expected")
    return texts


def checked(values: Any, place: str) -> list[Row]:
    """A list of objects as rows.

    Args:
        values: what JSON held.
        place: of a row, without its number.

    Raises:
        DataError: it is no list of objects.
    """
    if not isinstance(values, list):
        raise DataError(f"{place}s must be a JSON list of objects, got {values!r:.60}")
    return [_row(value, f"{place} {number}") for number, value in enumerate(values, 1)]


def hub_rows(name: str, subset: str | None, split: str) -> list[Row]:
    """One split of a Hugging Face data set, class labels as their names.

    Raises:
        ConfigError: the package datasets is not installed.
        DataError: the split cannot be had.
    """
    try:
        import datasets
    except ImportError as error:
        raise ConfigError(f"data set {name!r} needs a package ({error}): pip install 'clbench[text]'") from error
    try:
        data = datasets.load_dataset(name, subset, split=split)
    except Exception as error:  # of the network, the hub, the file formats: each has exceptions of its own
        reason = (str(error) or type(error).__name__).splitlines()[0]
        part = f"subset {subset}, split {split}" if subset else f"split {split}"
        raise DataError(f"cannot load data set {name!r}, {part}: {reason}") from error
    labels = {field: feature for field, feature in data.features.items() if isinstance(feature, datasets.ClassLabel)}
    return [
        Row(f"{name}, {split} row {number}", row | {f: _label(labels[f], row[f]) for f in labels})
        for number, row in enumerate(data, 1)
    ]


def _label(labels: Any, value: int | None) -> str | None:
    """A class's name; None where there is no label, which the hub writes as -1 as well."""
    return None if value is None or value < 0 else str(labels.int2str(value))


def _row(value: Any, place: str) -> Row:
    if not isinstance(value, dict):
        raise DataError(f"{place} must be a JSON object with named fields, got {value!r:.60}")
    return Row(place, value)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(
            f"cannot read {path} ({error.strerror or error}); put the file there or name another"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 (byte {error.start}); convert it") from error


def _parsed(text: str, path: Path, line: int | None = None) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = f"{path}, line {line or error.lineno}"
        hint = "; a JSON list of objects, or one object per line, was expected" if line else ""
        raise DataError(f"{place}: broken JSON ({error.msg}, column {error.colno}){hint}") from error
