"""A whole report as the text of one HTML file."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files

import jinja2
from markupsafe import Markup

from clbench.report.entry import Reportable, gathered
from clbench.report.grouping import blocks
from clbench.report.page.content import sheet
from clbench.report.tables import provenance
from clbench.report.view import USUAL, View


def to_html(reported: Reportable, view: View = USUAL) -> str:
    """The evaluation runs as a page that works from a file and loads nothing.

    All text of records is escaped; besides, the page forbids browsers to load anything and to run any other script.

    Args:
        reported: runs that were found, or records of any kind; tuning runs appear as tuning score only, unfinished
            ones are left out and counted.
        view: what is shown of them.

    Raises:
        ClbenchError: no such column, or no evaluation run has come to an end.
    """
    runs = gathered(reported)
    sheets = [sheet(block, f"block-{i + 1}", view) for i, block in enumerate(blocks(runs, view))]
    script = _part("script.js")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_part("page.html")).render(
        sheets=sheets,
        source=view.source,
        provenance=provenance(runs, view.command),
        style=Markup(_part("style.css")),
        script=Markup(script),
        trusted="sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _part(name: str) -> str:
    return (files("clbench.report.page") / name).read_text(encoding="utf-8")
