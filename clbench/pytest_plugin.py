"""A pytest plugin: published numbers as tests that runs of yours pass or fail.

    pytest --clbench-runs runs --clbench-reported paper.csv

collects one test for each row of the CSV (`clbench.reported`). It passes where the runs are within the tolerance and
fails where they are not (`clbench.comparison`); where there is nothing to compare, it is skipped and says why. A table
of both sides ends the session. Without ``--clbench-runs`` nothing is collected. Tests are marked ``published``.

pytest loads this module in every project where clbench is installed, so it imports the rest only when it is asked to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from clbench.errors import ClbenchError

if TYPE_CHECKING:
    from clbench.comparison import Comparison

RUN = "clbench"
"""Under this name a test's report says which row it was about."""


class OutsideError(Exception):
    """A measured number is further from the published one than the tolerance."""


class ReportedFile(pytest.File):
    """A CSV of published numbers."""

    def collect(self) -> Iterator[pytest.Item]:
        """One test for each row."""
        for found in _of(self.config, self.path):
            yield ReportedNumber.from_parent(self, name=_name(found), found=found)


class ReportedNumber(pytest.Item):
    """One published number."""

    def __init__(self, *, found: Comparison, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.found = found
        self.add_marker(pytest.mark.published)

    def runtest(self) -> None:
        """Pass, fail or be skipped, as the comparison says."""
        from clbench.comparison import Verdict
        from clbench.report.side_by_side import sentence

        self.user_properties.append((RUN, self.found.reported.place))
        if self.found.verdict is Verdict.OUTSIDE:
            raise OutsideError(sentence(self.found))
        if self.found.verdict is not Verdict.WITHIN:
            pytest.skip(self.found.reason)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException]) -> str:  # type: ignore[override]
        """The two numbers and their tolerance, without a trace of calls."""
        return str(excinfo.value) if excinfo.errisinstance(OutsideError) else str(super().repr_failure(excinfo))

    def reportinfo(self) -> tuple[Path, int, str]:
        """The row's file and line, the first line being 0."""
        return self.path, self.found.reported.line - 1, self.name


COMPARISONS = pytest.StashKey["tuple[Comparison, ...]"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where runs and published numbers are."""
    group = parser.getgroup("clbench", "runs against published numbers")
    group.addoption(
        "--clbench-runs",
        action="append",
        type=Path,
        metavar="FOLDER",
        help="output folder of `clbench run`, to be compared with published numbers; may be given several times",
    )
    group.addoption(
        "--clbench-reported",
        type=Path,
        metavar="PLACE",
        help="CSV of published numbers, or a folder of them; default: results/reported below the root folder",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Compare, where runs are given, and see to it that the published numbers are collected.

    Raises:
        pytest.UsageError: runs or published numbers cannot be read, or the numbers are given without runs.
    """
    config.addinivalue_line("markers", "published: meets published numbers")
    if not config.getoption("clbench_runs"):
        if config.getoption("clbench_reported"):
            raise pytest.UsageError("--clbench-reported goes with --clbench-runs FOLDER, the output of `clbench run`")
        return
    from clbench.comparison import compare
    from clbench.report import index
    from clbench.reported import read

    place = _place(config)
    try:
        config.stash[COMPARISONS] = compare(read(place), index.read(config.getoption("clbench_runs")))
    except ClbenchError as error:
        raise pytest.UsageError(str(error)) from error
    named = [(config.invocation_params.dir / word.split("::")[0]).resolve() for word in config.args]
    if not any(path == place or place in path.parents or path in place.parents for path in named):
        config.args.append(str(place))


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> ReportedFile | None:
    """A CSV that published numbers were read from."""
    return ReportedFile.from_parent(parent, path=file_path) if _of(parent.config, file_path) else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Both sides of every number that a test of this session was about."""
    tested = set(_tested(terminalreporter))
    comparisons = [c for c in config.stash.get(COMPARISONS, ()) if c.reported.place in tested]
    if not comparisons:
        return
    from clbench.report.side_by_side import lines

    terminalreporter.section("published and measured")
    for line in lines(comparisons):
        terminalreporter.write_line(line)


def _tested(terminalreporter: pytest.TerminalReporter) -> Iterator[object]:
    reports: Iterable[object] = (r for reports in terminalreporter.stats.values() for r in reports)
    for report in reports:
        if isinstance(report, pytest.TestReport):
            yield from (value for name, value in report.user_properties if name == RUN)


def _of(config: pytest.Config, path: Path) -> list[Comparison]:
    if path.suffix != ".csv":
        return []
    resolved = path.resolve()
    return [found for found in config.stash.get(COMPARISONS, ()) if found.reported.path == resolved]


def _place(config: pytest.Config) -> Path:
    given: Path | None = config.getoption("clbench_reported")
    place = config.rootpath / "results" / "reported" if given is None else config.invocation_params.dir / given
    return place.resolve()


def _name(found: Comparison) -> str:
    row = found.reported
    told = (row.strategy, row.metric, row.scenario, row.model, row.protocol, f"{row.paper} {row.table}")
    return f"published[{', '.join(told)}]"  # outside brackets pytest would take a dot for a class's
