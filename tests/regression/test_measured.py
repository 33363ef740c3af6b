"""The measured studies come out again: `pytest -m regression`, `-k digits` for one of them, `-n auto` for all cores.

Every row of each study is made anew from what its records say: same stream, same hyper-parameters, same seeds. On the
machine that made them the counts are the same to the last one. Elsewhere a metric's mean has to lie within the 95 %
t-interval of the seeds that is reported, or within one test answer of the mean where all seeds agreed: that is as far
as the reported number itself claims to be known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from clbench.again import run_of
from clbench.engine import execute
from clbench.metrics import METRICS
from clbench.record import Record
from clbench.report import index
from clbench.report.entry import entry
from clbench.report.grouping import Row, blocks
from tests.studies import ROOT, STUDIES, at_hand, here, opened, streams

pytestmark = pytest.mark.regression


STRATEGIES = [
    folder.relative_to(ROOT) for study in STUDIES for folder in sorted((ROOT / study / "runs").glob("*/*/evaluation"))
]


@pytest.mark.parametrize("study", STUDIES, ids=str)
def test_every_stream_is_what_it_was(study: Path, tmp_path: Path) -> None:
    with here(tmp_path):
        for run, digest in streams(study, tmp_path):
            assert opened(run).digest == digest


@pytest.mark.parametrize("folder", STRATEGIES, ids=lambda folder: str(folder.parent.relative_to("results/measured")))
def test_a_strategy_s_rows_come_out_again(folder: Path, tmp_path: Path) -> None:
    for block in blocks(index.read([ROOT / folder])):
        for row in block.rows:
            with here(tmp_path), at_hand():
                again = [execute(run_of(record, tmp_path / "runs")) for record in row.records]
            compare(row, again)


def compare(row: Row, again: Sequence[Record]) -> None:
    values = [entry(record).values for record in again]
    smallest = min(one.total for record in row.whole() for one in record.measurements)
    for name in METRICS:
        reported = row.interval(name)
        if reported.n == 0:
            continue
        known = [value[name] for value in values if not math.isnan(value[name])]
        tolerance = max(reported.high - reported.mean, 100 / smallest)
        assert sum(known) / len(known) == pytest.approx(reported.mean, abs=tolerance), (row.label, name)
