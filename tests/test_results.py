"""What stands in results/ and the README is what the stored records say."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from clbench import record
from clbench.record import Phase, Record, Status
from tests.studies import ROOT, STUDIES, here, opened, streams


def classes(found: Record) -> set[str]:
    return {name for experience in found.experiences for name in experience.name.split(", ")}


@pytest.mark.parametrize("study", STUDIES, ids=str)
def test_a_study_is_whole_and_honest(study: Path) -> None:
    records = list(record.find([ROOT / study / "runs"]))
    assert {found.status for found in records} <= {Status.FINISHED, Status.DIVERGED}
    tuned = {found.run: found for found in records if found.phase is Phase.TUNING}
    for found in records:
        if found.phase is Phase.EVALUATION:
            assert found.seed not in found.selection.tuning_seeds
            for run in found.selection.tuning_runs:
                assert not classes(found) & classes(tuned[run])
        assert not found.environment.commit.endswith("+"), "measured with code that was not committed"


@pytest.mark.parametrize("study", STUDIES, ids=str)
def test_a_study_s_data_are_those_of_today_s_scenarios(study: Path, tmp_path: Path) -> None:
    """Of its first seed; `pytest -m regression` opens all of them."""
    with here(tmp_path):
        for run, digest in list(streams(study, tmp_path))[:1]:
            assert opened(run).digest == digest


@pytest.mark.parametrize("study", STUDIES, ids=str)
def test_numbers_in_a_study_s_table_are_recomputed_from_its_counts(study: Path) -> None:
    """By hand, from the counts alone: neither our metrics nor our tables take part."""
    table = pd.read_csv(ROOT / study / "report.csv", engine="python")
    runs = [found for found in record.find([ROOT / study / "runs"]) if found.phase is Phase.EVALUATION]
    for _, row in table[table.metric == "last_accuracy"].iterrows():
        mine = [
            found
            for found in runs
            if found.strategy == row.strategy
            and json.dumps(found.strategy_config, sort_keys=True) == row.strategy_config
            and json.dumps(found.model_config, sort_keys=True) == row.model
            and json.dumps(found.scenario_config, sort_keys=True) == row.scenario_config
            and (math.isnan(row.tuning_score) or found.selection.tuning_score == row.tuning_score)
        ]
        assert len(mine) == row.runs
        ends = [[one for one in found.measurements if one.after == len(found.experiences)] for found in mine]
        if all(found.status is Status.FINISHED for found in mine):
            shares = [100 * sum(o.correct for o in end) / sum(o.total for o in end) for end in ends]
            assert row["mean"] == pytest.approx(sum(shares) / len(shares), abs=1e-9)


def test_everything_told_from_the_runs_is_what_they_say_today() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "results" / "regenerate.py"), "--check"], capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("", ""), "run: python results/regenerate.py"


def test_the_readme_shows_every_study_or_where_its_findings_are() -> None:
    readme = (ROOT / "README.md").read_text()
    for study in STUDIES:
        findings = study / "findings.md"
        shown = f"({findings})" if (ROOT / findings).exists() else f"<!-- {study / 'report.md'} 1 -->"
        assert shown in readme
