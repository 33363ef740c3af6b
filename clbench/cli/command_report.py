"""Make tables of finished runs: for the terminal, as CSV, LaTeX, Markdown or SVG."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

EXAMPLES = """examples:
  clbench report runs                          a table in the terminal
  clbench report runs --format latex > table.tex
  clbench report mine yours --format csv       two people's runs together
"""


def run(words: list[str]) -> int:
    """Print one report of all records below the folders."""
    parser = argparse.ArgumentParser(
        prog="clbench report",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", nargs="+", type=Path, help="output folders of `clbench run`")
    parser.add_argument("--format", default="table", choices=["table", "csv", "latex", "markdown", "svg"])
    asked = parser.parse_args(words)
    from rich.console import Console

    from clbench import record
    from clbench.report import summary, tables

    records = list(record.find(asked.folder))
    if asked.format == "table":
        summary.render(records, Console())
    elif asked.format == "svg":
        sys.stdout.write(summary.to_svg(records))
    else:
        sys.stdout.write(tables.report(records, asked.format))
    return 0
