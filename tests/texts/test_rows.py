from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from clbench.errors import ConfigError, DataError
from clbench.texts.rows import Row, hub_rows, read_object, read_rows


def test_a_list_and_lines_hold_the_same_rows(tmp_path: Path) -> None:
    values = [{"a": "one\u2028line", "b": ["x", "ü"]}, {"a": ""}]
    (tmp_path / "list.json").write_text(json.dumps(values, indent=1))
    lines = "\n\n".join(json.dumps(value, ensure_ascii=False) for value in values)
    (tmp_path / "lines.jsonl").write_text(f"\ufeff{lines}\n", encoding="utf-8")
    for name in ("list.json", "lines.jsonl"):
        assert [row.values for row in read_rows(tmp_path / name)] == values
    assert [row.place for row in read_rows(tmp_path / "list.json")] == [
        f"{tmp_path}/list.json, row {n}" for n in (1, 2)
    ]
    assert [row.place for row in read_rows(tmp_path / "lines.jsonl")][1] == f"{tmp_path}/lines.jsonl, line 3"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": "x"}\n{"a": }\n', "f.json, line 2: broken JSON (Expecting value, column 7); a JSON list"),
        (b'[\n{"a": "x"},\n{"a" "y"}]', "f.json, line 3: broken JSON (Expecting ':' delimiter, column 6)"),
        (b'{\n"a": "x"\n}', "f.json, line 1: broken JSON"),
        (b'[{"a": "x"}, "y"]', "f.json, row 2 must be a JSON object with named fields, got 'y'"),
        (b"7\n", "f.json, line 1 must be a JSON object with named fields, got 7"),
        (b" \n", "f.json is empty; a JSON list of objects"),
        (b"\xff\xfe", "f.json is not UTF-8 (byte 0)"),
        (None, "f.json (No such file or directory); put the file there"),
    ],
)
def test_a_file_without_rows_is_one_sentence(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "f.json").write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_rows(tmp_path / "f.json")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_must_hold_an_object_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "f.json").write_text("[1]")
    with pytest.raises(DataError, match=r"f\.json holds a JSON list; an object"):
        read_object(tmp_path / "f.json")


def test_fields_are_texts_or_lists_of_them() -> None:
    row = Row("row 1", {"one": "x", "list": ["x", 2, True], "number": 0.5})
    assert row.text("one") == "x"
    assert row.text("number") == "0.5"
    assert row.texts("one") == ("x",)
    assert row.texts("list") == ("x", "2", "True")


@pytest.mark.parametrize("value", [None, [None], ["x", ["y"]], {"text": "x"}])
def test_another_kind_of_field_is_one_sentence(value: Any) -> None:
    with pytest.raises(DataError, match=r"^row 3: field 'a' must hold text, got") as caught:
        Row("row 3", {"a": value}).texts("a")
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match=r"^row 3: field 'a' must hold text"):
        Row("row 3", {"a": value}).text("a")


def test_one_text_is_no_list_and_a_list_not_empty() -> None:
    with pytest.raises(DataError, match=r"field 'a' must hold text, got \['x'\]"):
        Row("row 1", {"a": ["x"]}).text("a")
    with pytest.raises(DataError, match="field 'a' is an empty list"):
        Row("row 1", {"a": []}).texts("a")


def test_a_missing_field_is_named_with_those_that_are_there() -> None:
    with pytest.raises(DataError, match=r"^row 3 lacks the field 'c'; its fields: a, b"):
        Row("row 3", {"a": "x", "b": "y"}).text("c")


def test_without_the_package_the_hub_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ConfigError, match=r"data set 'imdb' needs a package .*: pip install 'clbench\[text\]'$"):
        hub_rows("imdb", None, "train")
