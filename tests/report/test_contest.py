"""Who stands in bold, against scipy's tests and Holm's rule by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.stats import ttest_rel

from clbench.metrics import METRICS
from clbench.record import Record
from clbench.report.contest import holm, paired, places
from clbench.report.grouping import Row, blocks
from clbench.report.tables import report
from clbench.report.view import Bold, View
from tests.conftest import MakeRecord

LAST = METRICS["last_accuracy"]


def learner(
    make_record: MakeRecord, name: str, last: Sequence[int], seeds: Sequence[int] | None = None
) -> list[Record]:
    """One run per seed with so many of 1,000 right at the end."""
    return [
        make_record([[right]], totals=[1000], strategy=name, seed=seed)
        for seed, right in zip(seeds or range(len(last)), last, strict=True)
    ]


def rows(records: Sequence[Record]) -> dict[str, Row]:
    return {row.label: row for block in blocks(records) for row in block.rows}


def test_p_is_that_of_scipy_over_shared_seeds(make_record: MakeRecord) -> None:
    generator = np.random.default_rng(0)
    one, other = (generator.integers(400, 600, 6).tolist() for _ in range(2))
    records = learner(make_record, "a", one) + learner(make_record, "b", [*other[2:], 999, 1], [2, 3, 4, 5, 8, 9])
    found = rows(records)
    expected = ttest_rel(one[2:], other[2:]).pvalue
    assert paired(found["a"], found["b"], LAST.name) == pytest.approx(expected, rel=1e-9)


def test_p_where_seeds_do_not_differ_or_are_not_shared(make_record: MakeRecord) -> None:
    records = learner(make_record, "a", [500, 510]) + learner(make_record, "b", [490, 500])
    records += learner(make_record, "c", [500, 510]) + learner(make_record, "d", [1, 2], [7, 8])
    found = rows(records)
    assert paired(found["a"], found["b"], LAST.name) == 0, "always ten better"
    assert paired(found["a"], found["c"], LAST.name) == 1
    assert paired(found["a"], found["d"], LAST.name) == 1


def test_other_data_under_the_same_seed_are_no_pair(make_record: MakeRecord) -> None:
    records = learner(make_record, "a", [500, 510, 520])
    records += [make_record([[400]], totals=[1000], strategy="b", seed=s, data_digest="other") for s in range(3)]
    found = rows(records)
    assert paired(found["a"], found["b"], LAST.name) == 1


def test_holm_is_holm_s_rule() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.5]) == [1.0, 1.0]
    assert holm([]) == []


def test_bold_is_what_cannot_be_told_from_the_best(make_record: MakeRecord) -> None:
    records = learner(make_record, "best", [800, 820, 790, 810, 805])
    records += learner(make_record, "near", [790, 830, 780, 815, 795])
    records += learner(make_record, "far", [700, 722, 688, 711, 704])
    contestants = list(rows(records).values())
    assert places(contestants, LAST) == {"best": 1, "near": 2}
    assert places(contestants, LAST, Bold.SIGNIFICANT) == {"best": 1, "near": 1}
    text = report(records, "markdown", View(columns=("last_accuracy",), bold=Bold.SIGNIFICANT))
    assert text.count("**") == 4
    assert "not significantly worse than the best (paired t-test over seeds, Holm, 5 %)" in text


def test_less_is_better_where_less_is_better(make_record: MakeRecord) -> None:
    forgetting = METRICS["forgetting_max_prev"]
    records = [
        make_record([[90], [90 - lost - seed, 80]], strategy=name, seed=seed)
        for name, lost in (("little", 1), ("much", 50))
        for seed in range(4)
    ]
    contestants = list(rows(records).values())
    assert places(contestants, forgetting, Bold.SIGNIFICANT) == {"little": 1}


def test_nobody_wins_alone_or_where_nothing_is_known(make_record: MakeRecord) -> None:
    alone = list(rows(learner(make_record, "a", [1, 2])).values())
    assert places(alone, LAST) == {}
    one_experience = [make_record([[90]], strategy=name, seed=0) for name in "ab"]
    assert places(list(rows(one_experience).values()), METRICS["forgetting_max_prev"]) == {}
