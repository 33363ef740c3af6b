"""Draw figures of finished runs for papers, as PDF, PNG or SVG files."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from clbench.report.view import View

EXAMPLES = """examples:
  clbench plot runs                            PDFs of every figure into the folder figures
  clbench plot runs --output paper --format pdf svg
  clbench plot mine yours                      two people's runs together
  clbench plot runs --columns last_accuracy    what cost is drawn against, and what orders the rows

One file per figure and block of comparable runs. Only evaluation runs are drawn.
"""


def run(words: list[str]) -> int:
    """Write the figures of all records below the folders."""
    parser = argparse.ArgumentParser(
        prog="clbench plot",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", nargs="+", type=Path, help="output folders of `clbench run`")
    parser.add_argument("--output", default=Path("figures"), type=Path, metavar="FOLDER", help="where files are put")
    parser.add_argument("--format", nargs="+", default=["pdf"], choices=["pdf", "png", "svg"])
    parser.add_argument("--columns", nargs="+", metavar="METRIC", help="as in `clbench report`; the first one counts")
    asked = parser.parse_args(words)
    from clbench.cli.reading import reading
    from clbench.report import index, plots

    with reading() as told:
        runs = index.read(asked.folder, told)
    view = View(columns=tuple(asked.columns or ()), source=", ".join(map(str, asked.folder)))
    for line in plots.write(runs, asked.output, asked.format, view):
        print(line)
    for sentence in runs.left_out:
        print(f"clbench: {sentence}", file=sys.stderr)
    return 0
