"""The documentation as a reader gets it: every plugin has a page, every link a target, and nothing is fetched."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from clbench import record
from clbench.config import registries
from clbench.metrics import METRICS
from clbench.record import Phase

pytest.importorskip("jinja2", reason="jinja2 is not installed")
pytest.importorskip("markdown_it", reason="markdown-it-py is not installed")
from clbench.reported import read

ROOT = Path(__file__).parent.parent.parent
LOADING = {("link", "href"), ("img", "src"), ("script", "src"), ("iframe", "src"), ("source", "src"), ("img", "srcset")}


class Page(HTMLParser):
    """What a page points to, what it loads, and its anchors."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.scripts = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        for name, value in attrs:
            if (tag, name) in LOADING:
                self.loads.append(value or "")
            elif tag == "a" and name == "href":
                self.links.append(value or "")
            elif name == "id":
                self.anchors.add(value or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs") / "site"
    surroundings = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "docs" / "build.py"), "--output", str(folder)]
    done = subprocess.run(command, cwd=folder.parent, env=surroundings, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}


def text(path: Path) -> str:
    """A page's words, without markup and with single spaces."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", path.read_text(encoding="utf-8"))).split())


def test_every_plugin_has_a_page_that_others_lead_to(site: Path, pages: dict[Path, Page]) -> None:
    for kind, registry in registries().items():
        listed = {(site / kind / link) for link in pages[site / kind / "index.html"].links}
        for name in registry.names():
            path = site / kind / f"{name}.html"
            assert path in listed
            plain = registry.summary(name).replace("`", "")
            assert plain in text(path)


def test_every_link_within_the_site_has_a_target(site: Path, pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        for link in (*page.links, *page.loads):
            if re.match(r"(https|data):", link):
                continue
            file, _, anchor = link.partition("#")
            target = (path.parent / unquote(file)).resolve() if file else path
            assert target.is_file(), f"{path.relative_to(site)} points to {link}"
            assert not anchor or anchor in pages[target].anchors, f"{path.relative_to(site)} points to {link}"


def test_nothing_is_loaded_from_elsewhere(site: Path, pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        assert page.scripts == 0
        assert all(not re.match(r"(?!data:)\w+:|//", link) for link in page.loads), path
    for path in (*site.rglob("*.css"), *site.rglob("*.svg")):
        content = path.read_text(encoding="utf-8")
        assert "@import" not in content
        assert not re.search(r"url\(\s*['\"]?(https?:)?//|(?:href|src)=['\"](https?:)?//", content), path


def test_metrics_and_record_are_described_whole(site: Path, pages: dict[Path, Page]) -> None:
    assert METRICS.keys() <= pages[site / "metrics.html"].anchors
    assert "1/(T-1) sum_{j<T-1} (R[T-1, j] - R[j, j])" in text(site / "metrics.html")
    assert {"Record", "Measurement", "Cost", "Setting"} <= pages[site / "record.html"].anchors
    for name in record.Record.__dataclass_fields__:
        assert name in text(site / "record.html")


def test_results_are_those_of_the_reports(site: Path) -> None:
    shown = text(site / "results.html")
    for study in sorted((ROOT / "results" / "measured").rglob("report.md")):
        for row in re.findall(r"^\| (?!Strategy|---)(.*) \|$", study.read_text(encoding="utf-8"), re.MULTILINE):
            plain = re.sub(r"\*\*|</?u>|\\(?=[_*<|\\])", "", row).replace(" | ", " ")
            assert " ".join(plain.split()) in shown, f"{study}: {plain}"
    for row in read(ROOT / "results" / "reported"):
        if "_after_" not in row.metric:
            value = f"{row.value:g}" + ("" if row.spread is None else f" ± {row.spread:g}")
            assert " ".join(f"{row.strategy} {row.scenario} {row.model} {row.metric} {value}".split()) in shown, (
                row.place
            )


def test_a_card_s_page_shows_what_can_be_set_and_what_was_measured(site: Path) -> None:
    shown = text(site / "strategy" / "ewc.html")
    assert "searched: 0.1 to 10000, logarithmically" in shown
    assert "clbench run strategy=ewc protocol=single" in shown
    assert "digits, class-incremental, evaluation half" in shown
    runs = (ROOT / "results" / "measured" / "digits" / "runs").rglob(f"ewc/{Phase.EVALUATION.value}/*/record.json")
    assert len(list(runs)) == 5
    assert "5 (1†)" in shown
