"""Make tables of finished runs: for the terminal, as CSV, LaTeX, Markdown, SVG or a web page."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from clbench.cli.cycles import without_search_for_cycles
from clbench.report.view import Bold, View

EXAMPLES = """examples:
  clbench report runs                          a table in the terminal
  clbench report runs --format latex > table.tex
  clbench report runs --format html > page.html          tables and figures in one file, to open in a browser
  clbench report mine yours --format csv       two people's runs together
  clbench report runs --columns last_accuracy bwt_gem intransigence

Only evaluation runs are reported. CSV has every metric. Intransigence needs runs of strategy=joint beside the others.
"""


@without_search_for_cycles()
def run(words: list[str]) -> int:
    """Print one report of all records below the folders."""
    parser = argparse.ArgumentParser(
        prog="clbench report",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", nargs="+", type=Path, help="output folders of `clbench run`")
    parser.add_argument("--format", default="table", choices=["table", "csv", "latex", "markdown", "svg", "html"])
    parser.add_argument("--columns", nargs="+", metavar="METRIC", help="what tables show; see clbench/metrics.py")
    parser.add_argument(
        "--bold",
        default="best",
        choices=[bold.value for bold in Bold],
        help="the best mean, or all that are not significantly worse (paired t-test over seeds, Holm, 5 %%)",
    )
    asked = parser.parse_args(words)
    from rich.console import Console

    from clbench.cli.reading import reading
    from clbench.report import index, summary, tables

    with reading() as told:
        runs = index.read(asked.folder, told)
    view = View(
        columns=tuple(asked.columns or ()),
        bold=Bold(asked.bold),
        source=", ".join(map(str, asked.folder)),
        command=shlex.join(["clbench", "report", *words]),
    )
    if asked.format == "table":
        summary.render(runs, Console(), view)
        return 0
    for sentence in runs.left_out:  # the report goes into a file, and who reads that may not be who made it
        print(f"clbench: {sentence}", file=sys.stderr)
    if asked.format == "svg":
        sys.stdout.write(summary.to_svg(runs, view))
    elif asked.format == "html":
        from clbench.report.page.page import to_html

        sys.stdout.write(to_html(runs, view))
    else:
        sys.stdout.write(tables.report(runs, asked.format, view))
    return 0
