"""Published numbers: the files that come with the repository, and how a file is read."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from clbench.errors import ClbenchError
from clbench.metrics import METRICS
from clbench.reported import COLUMNS, Conditions, Reported, conditions, read
from tests.conftest import MakeRecord

FOLDER = Path(__file__).parent.parent / "results" / "reported"
ROWS = read(FOLDER)
GOOD = "2412.09441,1,digits,hft,small_cnn,single part=whole,last_accuracy,89.25,0.50,3,table 1,read in the paper,\n"
DIFFERENCES = ("bwt_trace", "forgetting_max_prev", "forgetting_max_all", "gain_over_best_baseline")


def written(tmp_path: Path, *rows: str, header: str = ",".join(COLUMNS)) -> Path:
    path = tmp_path / "paper.csv"
    path.write_text("\n".join([header, *(row.rstrip("\n") for row in rows)]) + "\n", encoding="utf-8")
    return path


def curves() -> dict[str, list[Reported]]:
    """The logs that hold a curve, by their names."""
    logs = [row for row in ROWS if row.table.startswith("log of ")]
    return {name: list(rows) for name, rows in groupby(logs, key=lambda row: row.table)}


def one(rows: list[Reported], metric: str) -> float:
    (found,) = (row.value for row in rows if row.metric == metric)
    return found


@pytest.mark.parametrize("name", ["hft", "coin", "mos", "locft_bf", "reality_check"])
def test_there_is_a_file_of_each_paper(name: str) -> None:
    assert len(read(FOLDER / f"{name}.csv")) > 20


def test_every_value_is_within_the_range_of_its_unit() -> None:
    for row in ROWS:
        low = -100 if row.metric in DIFFERENCES else 0
        assert low <= row.value <= (60 if row.metric == "seconds_per_edit" else 100), row.place
        assert row.spread is None or (0 < row.spread < 5 and row.n is not None), row.place


@pytest.mark.parametrize("name", curves())
def test_the_average_and_the_last_accuracy_follow_from_the_curve(name: str, make_record: MakeRecord) -> None:
    rows = curves()[name]
    curve = [row.value for row in rows if row.metric.startswith("seen_accuracy_after_")]
    counts = [[round(100 * value)] * (stage + 1) for stage, value in enumerate(curve)]
    record = make_record(counts, totals=[10_000] * len(curve))
    for metric in ("average_incremental_accuracy", "last_accuracy"):
        assert METRICS[metric].function(record) == pytest.approx(one(rows, metric), abs=0.0051)


def test_all_fourteen_logs_are_there_stage_by_stage() -> None:
    assert len(curves()) == 14
    for rows in curves().values():
        stages = [row.metric.rpartition("_")[2] for row in rows if row.metric.startswith("seen_accuracy_after_")]
        assert stages == [str(1 + i) for i in range(len(stages))]
        assert len(stages) in (5, 10, 15, 20)


@pytest.mark.parametrize(("mean", "parts"), [("general_ability", 6), ("basic_knowledge", 3)])
def test_published_means_are_the_means_of_their_parts(mean: str, parts: int) -> None:
    """But for one, which the paper prints a tenth higher."""
    table = [row for row in ROWS if row.table in ("general abilities", "basic knowledge")]
    for row in table:
        if row.metric == mean:
            mates = [r.value for r in table if r.key[:-1] == row.key[:-1] and r is not row]
            assert len(mates) == parts
            assert row.value == pytest.approx(sum(mates) / parts, abs=0.16 if row.note else 0.051)


def test_a_row_is_read_with_its_numbers(tmp_path: Path) -> None:
    (row,) = read(written(tmp_path, GOOD))
    assert (row.value, row.spread, row.n) == (89.25, 0.5, 3)
    assert row.place.endswith("paper.csv:2")


def test_what_is_not_known_is_none(tmp_path: Path) -> None:
    (row,) = read(written(tmp_path, GOOD.replace("0.50,3", ",")))
    assert (row.spread, row.n) == (None, None)


@pytest.mark.parametrize(("text", "rounding"), [("89", 0.5), ("-89.3", 0.05), ("89.25", 0.005), ("89.250", 0.0005)])
def test_the_last_place_says_how_far_a_value_is_rounded(tmp_path: Path, text: str, rounding: float) -> None:
    (row,) = read(written(tmp_path, GOOD.replace("89.25", text)))
    assert row.rounding == pytest.approx(rounding)


def test_a_value_read_off_a_figure_may_be_off_by_more(tmp_path: Path) -> None:
    (row,) = read(written(tmp_path, GOOD.replace("read in the paper", '"off a figure, within 1.5"')))
    assert row.rounding == pytest.approx(1.505)


def test_conditions_are_a_name_and_typed_fields() -> None:
    asked = conditions("timm/vit pretrained=true adapter.rank=8 lr=0.5 tasks=null list=[] path=cub")
    fields: dict[str, Any] = {
        "pretrained": True,
        "adapter.rank": 8,
        "lr": 0.5,
        "tasks": None,
        "list": [],
        "path": "cub",
    }
    assert asked == Conditions("timm/vit", fields)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("89.25", "high", r"paper.csv:3: value must be a plain number, as it is printed, e.g. 89.25; got 'high'"),
        ("89.25", "nan", "value must be a plain number"),
        ("0.50", "-0.50", "spread must be a plain number of at least 0"),
        (",3,", ",0,", "n must be a whole number of at least 1"),
        (",3,", ",3.5,", "n must be a whole number"),
        ("table 1", " ", "source is empty"),
        ("read in the paper", "", "read_how is empty"),
        ("2412.09441", "", "paper is empty"),
        ("part=whole", "whole", "protocol: 'whole' in 'single whole' is no field=value"),
        ("table 1", "table 1, top", "not 13 cells"),
        (",3,", ",", "not 13 cells"),
    ],
)
def test_a_bad_row_is_named_in_one_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    other = GOOD.replace("hft", "naive")
    with pytest.raises(ClbenchError, match=message) as raised:
        read(written(tmp_path, other, GOOD.replace(old, new)))
    assert "\n" not in str(raised.value)
    assert "paper.csv:3" in str(raised.value)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (",".join(COLUMNS).replace("spread", "std"), "paper.csv:1: unknown column 'std'"),
        (",".join(COLUMNS[:-1]), "paper.csv:1: no column 'note'"),
        (",".join((*COLUMNS, "note")), "one twice"),
        ("", "no column 'paper'"),
    ],
)
def test_bad_columns_are_named(tmp_path: Path, header: str, message: str) -> None:
    with pytest.raises(ClbenchError, match=message):
        read(written(tmp_path, GOOD, header=header))


def test_a_number_given_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ClbenchError, match=r"paper.csv:3: the same number as .*paper.csv:2"):
        read(written(tmp_path, GOOD, GOOD.replace("89.25", "90.00")))


def test_no_files_are_no_numbers(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ClbenchError, match="no CSV of published numbers in"):
            read(place)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ClbenchError, match=r"x\.csv: not CSV in UTF-8"):
        read(tmp_path)
