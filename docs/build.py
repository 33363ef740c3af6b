"""Build the documentation as static pages that load nothing from elsewhere: python docs/build.py --output site.

Everything is made from what stands in the code and beside it: the README, the cards of `clbench show`, the docstrings
of the metrics and of the record, and the tables of results/. Needs ``pip install 'clbench[docs]'``.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import inspect
import itertools
import os
import re
import shutil
from collections.abc import Iterator
from enum import Enum
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

from clbench import metrics, record
from clbench.cli.card import Card, card, measured, papers, published
from clbench.cli.fields import comments
from clbench.config import registries
from clbench.errors import ClbenchError
from clbench.report.quantities import QUANTITIES

HERE = Path(__file__).parent
ROOT = HERE.parent
RESULTS = ROOT / "results"
MEASURED_KINDS = ("strategy", "scenario", "protocol")
PLURALS = {"strategy": "strategies"}
PICTURES = (".svg", ".png")
PAGE_OF = {"README.md": "index.html", "clbench/metrics.py": "metrics.html", "clbench/record.py": "record.html"}
"""Files of the repository that have a page under another name."""


class Site:
    """Pages below one folder, and the files of the repository that they point to."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.pending: list[str] = []
        self.seen = set(PAGE_OF)
        loader = FileSystemLoader(HERE / "templates")
        self.jinja = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
        self.jinja.filters |= {"docstring": docstring, "inline": inline}
        self.nav = {PLURALS.get(kind, f"{kind}s"): [(kind, n) for n in r.names()] for kind, r in registries().items()}

    def page(self, path: str, template: str, title: str, **values: Any) -> None:
        """Write one page; links in it are relative, so that the site works wherever it lies."""
        root = "../" * path.count("/")
        text = self.jinja.get_template(template).render(root=root, path=path, title=title, nav=self.nav, **values)
        (self.output / path).parent.mkdir(parents=True, exist_ok=True)
        (self.output / path).write_text(text, encoding="utf-8")

    def markdown(self, source: str, path: str) -> None:
        """A Markdown file of the repository as a page, what it links to added to what is to be built."""
        tokens = _markdown().parse((ROOT / source).read_text(encoding="utf-8"))
        for token in _all(tokens):
            for name in ("href", "src"):
                if name in token.attrs:
                    token.attrs[name] = self._target(str(token.attrs[name]), source, path)
        for opening, inside in itertools.pairwise(tokens):
            if opening.type == "heading_open":
                opening.attrs["id"] = slug(inside.content)
        html = _markdown().renderer.render(tokens, _markdown().options, {})
        html = html.replace("<table>", '<div class="wide"><table>').replace("</table>", "</table></div>")
        title = next((t.content for t in tokens if t.type == "inline"), source)
        self.page(path, "text.html", title, body=Markup(html))

    def _target(self, link: str, source: str, path: str) -> str:
        """Where a link of a Markdown file points to on the site."""
        file, _, anchor = link.partition("#")
        if not file or re.match(r"[a-z]+:", file):
            return link
        wanted = os.path.normpath(PurePosixPath(source).parent / file)
        if (ROOT / wanted / "__init__.py").is_file():  # a package: what its head says
            wanted = f"{wanted}/__init__.py"
        if wanted not in self.seen and (ROOT / wanted).is_file():
            self.seen.add(wanted)
            self.pending.append(wanted)
        return os.path.relpath(page_of(wanted), PurePosixPath(path).parent) + (f"#{anchor}" if anchor else "")

    def rest(self) -> None:
        """Build what other pages link to: Markdown as pages, pictures as they are, anything else as text."""
        while self.pending:
            source = self.pending.pop()
            if source.endswith(".md"):
                self.markdown(source, page_of(source))
            else:
                (self.output / page_of(source)).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / source, self.output / page_of(source))


def page_of(source: str) -> str:
    """The place on the site of a file of the repository."""
    if source in PAGE_OF or source.endswith(PICTURES):
        return PAGE_OF.get(source, f"files/{source}")
    return f"files/{source.removesuffix('.md')}.html" if source.endswith(".md") else f"files/{source}.txt"


def slug(heading: str) -> str:
    """The anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@functools.cache
def _markdown() -> MarkdownIt:
    """Our Markdown: tables and underlined second places, no other HTML."""
    return MarkdownIt("commonmark", {"html": False}).enable("table").use(lambda md: md.inline.ruler.push("u", _u))


def _u(state: Any, silent: bool) -> bool:
    """The rule that lets ``<u>`` through."""
    match = re.compile(r"</?u>").match(state.src, state.pos)
    if match is None:
        return False
    if not silent:
        state.push("html_inline", "", 0).content = match.group()
    state.pos = match.end()
    return True


def _all(tokens: list[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from _all(token.children or [])


@functools.cache
def _plain() -> MarkdownIt:
    """Docstrings: paragraphs, code, lists and indented formulas; no emphasis, which would eat products."""
    rules = ["emphasis", "link", "image", "autolink", "html_inline", "heading", "lheading", "hr", "blockquote", "fence"]
    return MarkdownIt("commonmark", {"html": False}).disable([*rules, "html_block", "reference", "entity", "escape"])


def docstring(text: str) -> Markup:
    """A docstring as HTML, papers on arXiv linked."""
    return Markup(_linked(_plain().render(text)))


def inline(text: str) -> Markup:
    """A comment of one line as HTML."""
    return Markup(_linked(_plain().renderInline(text)))


def _linked(html: str) -> str:
    return re.sub(r"arXiv (\d{4}\.\d{4,5})", r'<a href="https://arxiv.org/abs/\1">arXiv \1</a>', html)


class Type(NamedTuple):
    """A dataclass or enumeration of the record."""

    name: str
    text: str
    rows: tuple[tuple[str, str, str], ...]  # name, type or value, meaning


def schema() -> list[Type]:
    """The types of a record, the record first."""
    found = []
    for name, cls in vars(record).items():
        if inspect.isclass(cls) and cls.__module__ == record.__name__:
            if dataclasses.is_dataclass(cls):
                told = comments(cls)
                rows = [(f.name, str(f.type), told.get(f.name, "")) for f in dataclasses.fields(cls)]
            elif issubclass(cls, Enum):
                rows = [(member.name, str(member.value), "") for member in cls]
            else:
                continue
            found.append(Type(name, inspect.getdoc(cls) or "", tuple(rows)))
    return sorted(found, key=lambda type_: type_.name != "Record")


def metric_rows() -> list[tuple[metrics.Quantity, str]]:
    """Everything that is averaged over seeds, with the docstring that defines it."""
    functions = {name: getattr(quantity, "function", None) for name, quantity in QUANTITIES.items()}
    return [(q, inspect.getdoc(functions[n] or getattr(metrics, n)) or "") for n, q in QUANTITIES.items()]


def card_of(kind: str, name: str) -> Card:
    """The card of a plugin; one that needs a missing package shows its docstring, and what is missing."""
    try:
        return card(kind, name)
    except ClbenchError as error:
        return Card(kind, name, registries()[kind].certificate(name), (("not available", str(error)),), (), "")


def build(output: Path) -> None:
    """Build all pages."""
    site = Site(output)
    output.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(HERE / "style.css", output / "style.css")
    site.markdown("README.md", "index.html")
    for kind, registry in registries().items():
        summaries = [(name, registry.summary(name)) for name in registry.names()]
        site.page(f"{kind}/index.html", "kind.html", PLURALS.get(kind, f"{kind}s").capitalize(), rows=summaries)
        for name in registry.names():
            boards = measured(kind, name, RESULTS) if kind in MEASURED_KINDS else []
            told = published(name, RESULTS) if kind == "strategy" else None
            values = {"card": card_of(kind, name), "boards": boards, "published": told}
            site.page(f"{kind}/{name}.html", "card.html", name, **values)
    site.page("metrics.html", "metrics.html", "Metrics", head=metrics.__doc__, rows=metric_rows())
    site.page("record.html", "record.html", "Record", head=record.__doc__, types=schema(), version=record.SCHEMA)
    _results(site)
    site.rest()


def _results(site: Site) -> None:
    boards = [one for name in registries()["protocol"].names() for one in measured("protocol", name, RESULTS)]
    site.pending.append("results/README.md")
    site.seen.add("results/README.md")
    site.page("results.html", "results.html", "Results", boards=boards, papers=papers(RESULTS))


def main() -> None:
    """Build into the folder that is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("site"), help="folder; default: site")
    build(parser.parse_args().output)


if __name__ == "__main__":
    main()
