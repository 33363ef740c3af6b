"""A whole report as the text of one HTML file."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files

import jinja2
from markupsafe import Markup

from clbench.report.board import Bounds
from clbench.report.contest import Bold
from clbench.report.entry import Reportable, gathered
from clbench.report.grouping import blocks
from clbench.report.page.content import sheet
from clbench.report.tables import provenance


def to_html(
    reported: Reportable,
    *,
    upper_bound: str = "joint",
    lower_bound: str = "naive",
    columns: Sequence[str] = (),
    bold: Bold = Bold.BEST,
    source: str = "these records",
    command: str = "clbench report",
) -> str:
    """The evaluation runs as a page that works from a file and loads nothing.

    All text of records is escaped; besides, the page forbids browsers to load anything and to run any other script.

    Args:
        reported: runs that were found, or records of any kind; tuning runs appear as tuning score only, unfinished
            ones are left out and counted.
        upper_bound: name of the strategy that is ruled off below and that intransigence is measured against.
        lower_bound: name of the strategy that is ruled off above.
        columns: metrics, ``intransigence``, or ``probe.NAME``.
        bold: what stands in bold.
        source: where the records came from, for the head and for messages.
        command: what made the page, for its head.

    Raises:
        ClbenchError: no such column, or no evaluation run has come to an end.
    """
    runs = gathered(reported)
    grouped = blocks(runs, upper_bound, source)
    bounds = Bounds(upper_bound, lower_bound)
    sheets = [sheet(block, f"block-{i + 1}", bounds, columns, bold) for i, block in enumerate(grouped)]
    script = _part("script.js")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_part("page.html")).render(
        sheets=sheets,
        source=source,
        provenance=provenance(runs, command),
        style=Markup(_part("style.css")),
        script=Markup(script),
        trusted="sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _part(name: str) -> str:
    return (files("clbench.report.page") / name).read_text(encoding="utf-8")
