"""What stands in results/ and the README is what the stored records say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from clbench import record
from clbench.record import Phase, Record, Status
from clbench.report import tables

ROOT = Path(__file__).parent.parent
STUDIES = sorted(path.parent for path in (ROOT / "results" / "measured").rglob("runs"))
FINDINGS = [study for study in STUDIES if (study / "findings.md").exists()]


def classes(found: Record) -> set[str]:
    return {name for experience in found.experiences for name in experience.name.split(", ")}


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.name)
@pytest.mark.parametrize(
    ("name", "format_"), [("report.csv", "csv"), ("report.md", "markdown"), ("report.tex", "latex")]
)
def test_a_study_s_tables_are_made_from_its_records(study: Path, name: str, format_: str) -> None:
    folder = (study / "runs").relative_to(ROOT)
    records = list(record.find([study / "runs"]))
    made = tables.report(records, format_, command=f"clbench report {folder} --format {format_}")
    assert made == (study / name).read_text()


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.name)
def test_a_study_is_whole_and_honest(study: Path) -> None:
    records = list(record.find([study / "runs"]))
    assert {found.status for found in records} <= {Status.FINISHED, Status.DIVERGED}
    tuned = {found.run: found for found in records if found.phase is Phase.TUNING}
    for found in records:
        if found.phase is Phase.EVALUATION:
            assert found.seed not in found.selection.tuning_seeds
            for run in found.selection.tuning_runs:
                assert not classes(found) & classes(tuned[run])
        assert not found.environment.commit.endswith("+"), "measured with code that was not committed"


@pytest.mark.parametrize("study", FINDINGS, ids=lambda study: study.name)
def test_a_study_s_findings_are_told_by_its_records(study: Path) -> None:
    command = [sys.executable, str(study / "findings.py"), str(study / "runs")]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.stderr == ""
    assert done.stdout == (study / "findings.md").read_text()


def test_the_readme_shows_the_measured_tables_or_where_its_findings_are() -> None:
    readme = (ROOT / "README.md").read_text()
    for study in FINDINGS:
        assert f"({(study / 'findings.md').relative_to(ROOT)})" in readme
    for study in set(STUDIES) - set(FINDINGS):
        for table in re.findall(r"(?:^\|.*\n)+", (study / "report.md").read_text(), re.MULTILINE):
            assert table in readme, f"the README's table of {study.name} is out of date"
