from __future__ import annotations

from dataclasses import replace

from clbench.comparison import compare
from clbench.report.side_by_side import lines, sentence
from tests.conftest import MakeRecord
from tests.test_comparison import published, runs


def test_numbers_stand_beside_each_other_and_what_is_missing_is_counted(make_record: MakeRecord) -> None:
    near = published(71, spread=0.5, n=3)
    rows = [
        near,
        published(40, metric="average_incremental_accuracy"),
        published(table="2", strategy="hft"),
        published(table="3", strategy="hft"),
    ]
    assert lines(compare(rows, runs(make_record, [70, 72]))) == [
        "2404.18466, 1: digits increment=2, small_cnn, single part=whole",
        "  strategy  metric                                    reported              measured  difference  tolerance"
        "  verdict",
        "  naive     last_accuracy                 71.00 ± 0.50 (n = 3)  71.00 ± 1.41 (n = 2)       +0.00       9.45"
        "  within",
        "  naive     average_incremental_accuracy         40.00 (n = ?)  80.50 ± 0.71 (n = 2)      +40.50      11.00"
        "  outside",
        "",
        "nothing to compare:",
        "     2  no run of strategy hft (there: naive)",
    ]


def test_without_a_verdict_there_is_no_tolerance(make_record: MakeRecord) -> None:
    found = compare([published(71)], runs(make_record, [70]))
    *_, row, blank = lines(found)
    assert row.endswith("-1.00          -  undecided: one run against one number; run more seeds (protocol.seeds)")
    assert blank == ""
    assert sentence(found[0]).endswith(
        "published 71.00 (n = ?) (2404.18466, 1; paper.csv:2), measured 70.00 (n = 1): -1.00"
    )


def test_a_sentence_says_all_of_it(make_record: MakeRecord) -> None:
    (found,) = compare([published(40)], runs(make_record, [70, 72]))
    assert sentence(found) == (
        "naive, last_accuracy: published 40.00 (n = ?) (2404.18466, 1; paper.csv:2), measured 71.00 ± 1.41 (n = 2): "
        "+31.00, outside the tolerance of 22.01"
    )


def test_groups_that_cannot_be_told_apart_are_counted_as_missing(make_record: MakeRecord) -> None:
    records = runs(make_record, [70, 72])
    both = records + [replace(r, strategy_config={"lr": 0.2}, run=f"{r.run} again") for r in records]
    assert lines(compare([published()], both))[0] == "nothing to compare:"
