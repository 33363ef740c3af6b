"""Published numbers as tests, in projects of other people."""

from __future__ import annotations

import configparser
import subprocess
import sys
from pathlib import Path

import pytest

from clbench import record
from clbench.reported import COLUMNS
from tests.conftest import MakeRecord
from tests.test_comparison import runs

pytest_plugins = "pytester"
ROOT = Path(__file__).parent.parent
HEADER = ",".join(COLUMNS)
ROW = "2404.18466,{table},digits,{strategy},small_cnn,single part=whole,last_accuracy,{value},,,table,read in it,"
ROWS = [("1", "naive", "71.0"), ("2", "naive", "30.0"), ("3", "hft", "50.0"), ("4", "naive", "72.5")]
PLUGIN = ("-p", "clbench.pytest_plugin", "-p", "no:cacheprovider")


@pytest.fixture
def project(pytester: pytest.Pytester, make_record: MakeRecord) -> pytest.Pytester:
    """Two seeds of naive, whose last accuracies are 70 and 72; four published numbers; a test of the project's own."""
    for made in runs(make_record, [70, 72]):
        record.write(pytester.path / "runs" / made.run, made)
    place = pytester.mkdir("results") / "reported"
    place.mkdir()
    rows = [ROW.format(table=table, strategy=strategy, value=value) for table, strategy, value in ROWS]
    (place / "paper.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    pytester.makepyfile("def test_of_the_project(): pass")
    pytester.makeini("[pytest]\naddopts = --strict-markers")
    return pytester


def test_each_number_passes_fails_or_is_skipped(project: pytest.Pytester) -> None:
    result = project.runpytest(*PLUGIN, "-rs", "--clbench-runs", "runs")
    result.assert_outcomes(passed=3, failed=1, skipped=1)
    result.stdout.fnmatch_lines(
        [
            "naive, last_accuracy: published 30.00 * measured 71.00 ± 1.41 (n = 2): +41.00, outside the tolerance*",
            "*= published and measured =*",
            "2404.18466, 1: digits, small_cnn, single part=whole",
            "  naive * 71.00 (n = ?)  71.00 ± 1.41 (n = 2) * within",
            "  naive * 30.00 (n = ?)  71.00 ± 1.41 (n = 2) * outside",
            "nothing to compare:",
            "     1  no run of strategy hft (there: naive)",
            "SKIPPED * no run of strategy hft (there: naive)",
        ]
    )
    assert "Traceback" not in result.stdout.str()


def test_without_runs_nothing_is_collected(project: pytest.Pytester) -> None:
    for words in ((), ("results",)):
        result = project.runpytest(*PLUGIN, *words)
        result.assert_outcomes(passed=0 if words else 1)
        result.stdout.no_fnmatch_line("*published and measured*")


def test_the_marker_selects_and_deselects_the_numbers(project: pytest.Pytester) -> None:
    project.runpytest(*PLUGIN, "--clbench-runs=runs", "-m", "published").assert_outcomes(
        passed=2, failed=1, skipped=1, deselected=1
    )
    left_out = project.runpytest(*PLUGIN, "--clbench-runs=runs", "-m", "not published")
    left_out.assert_outcomes(passed=1, deselected=4)
    left_out.stdout.no_fnmatch_line("*published and measured*")


def test_one_number_is_run_by_its_name(project: pytest.Pytester) -> None:
    name = "published[naive, last_accuracy, digits, small_cnn, single part=whole, 2404.18466 4]"
    result = project.runpytest(*PLUGIN, "-v", "--clbench-runs=runs", f"results/reported/paper.csv::{name}")
    result.assert_outcomes(passed=1)
    assert f"paper.csv::{name} PASSED" in result.stdout.str()
    result.stdout.fnmatch_lines(["2404.18466, 4: *"])
    result.stdout.no_fnmatch_line("2404.18466, 1: *")


def test_a_csv_of_one_s_own_is_compared(project: pytest.Pytester) -> None:
    (project.path / "mine.csv").write_text("\n".join([HEADER, ROW.format(table="1", strategy="naive", value="71")]))
    result = project.runpytest(*PLUGIN, "--clbench-runs=runs", "--clbench-reported=mine.csv", "-m", "published")
    result.assert_outcomes(passed=1, deselected=1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--clbench-runs=nowhere",), "ERROR: no folder 'nowhere' to read runs from*"),
        (("--clbench-reported=results/reported",), "ERROR: --clbench-reported goes with --clbench-runs FOLDER*"),
        (("--clbench-runs=runs", "--clbench-reported=nowhere"), "ERROR: no CSV of published numbers in*nowhere*"),
        (("--clbench-runs=runs", "--clbench-reported=bad.csv"), "ERROR: *bad.csv:2: value must be a plain number*"),
    ],
)
def test_what_cannot_be_read_is_said_in_a_line(project: pytest.Pytester, words: tuple[str, ...], message: str) -> None:
    (project.path / "bad.csv").write_text("\n".join([HEADER, ROW.format(table="1", strategy="naive", value="high")]))
    result = project.runpytest(*PLUGIN, *words)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])
    assert "Traceback" not in result.stderr.str()


def test_installing_the_package_is_enough(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the entry point of setup.cfg, and beside it with the module named once more."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    installed = project.mkdir("clbench_installed-1.dist-info")
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: clbench-installed\nVersion: 1\n")
    (installed / "entry_points.txt").write_text(f"[pytest11]{config['options.entry_points']['pytest11']}\n")
    monkeypatch.setenv("PYTHONPATH", f"{project.path}:{ROOT}")
    for words in ((), PLUGIN[:2]):
        done = project.runpytest_subprocess(*words, "-p", "no:cacheprovider", "--clbench-runs=runs")
        done.assert_outcomes(passed=3, failed=1, skipped=1)


def test_the_plugin_is_light() -> None:
    code = "import sys, clbench.pytest_plugin; print({'torch', 'numpy', 'scipy', 'pandas', 'rich'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
