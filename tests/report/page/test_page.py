import re
import warnings
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest

from clbench.errors import ClbenchError
from clbench.record import ProbeMeasurement, Record, Setting, Status
from clbench.report.board import board
from clbench.report.grouping import blocks
from clbench.report.page.page import to_html
from clbench.report.view import View

Make = Callable[..., Record]
EVIL = "<script>alert(1)</script>"


class Page(HTMLParser):
    """Elements with their attributes, and all text that is shown."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.shown: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][0] not in ("style", "script") and data.strip():
            self.shown.append(" ".join(data.split()))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def study(make_record: Make) -> list[Record]:
    """Three seeds of both bounds and two contestants, and a stream of edits of one experience."""
    last = {"naive": 5, "replay": 60, "ewc": 30, "joint": 90}
    images = [
        make_record([[90], [60 + s, 80], [old + s, 70, 80]], strategy=name, seed=s)
        for name, old in last.items()
        for s in (0, 1, 2)
    ]
    probes = tuple(ProbeMeasurement(a, "capability", "accuracy", 9.0 - a, 10) for a in (0, 1))
    return [*images, make_record([[70]], setting=Setting.EDITING, probes=probes, strategy="ft_m")]


def test_every_number_and_note_of_the_board_is_on_the_page(study: list[Record]) -> None:
    shown = Page(to_html(study)).shown
    for block in blocks(study):
        laid = board(block)
        for line in (line for group in laid.groups for line in group):
            assert line.label in shown
            for cell in line.cells:
                assert (f"{cell.mean} ± {cell.half}" if cell.half else cell.mean) + cell.fewer in shown
            assert set(line.extras) <= set(shown)
        assert " ".join(laid.notes) in shown


def test_every_run_is_behind_its_row_with_what_made_it(study: list[Record]) -> None:
    shown = set(Page(to_html(study)).shown)
    for record in study:
        assert {record.run, record.data_digest, "abc1234", "cpu", "lr=0.1", "finished"} <= shown
    (block,) = (block for block in blocks(study) if block.first.strategy != "ft_m")
    for row in block.rows:
        for value in (*row.values["last_accuracy"], *row.values["forgetting_max_prev"]):
            assert f"{value:.1f}" in shown


def test_what_comes_from_records_is_text_wherever_it_stands(make_record: Make) -> None:
    config = {EVIL: EVIL, "quoted": '"><img src=x onerror=alert(2)>', "maths": r"$\frac$"}
    evil: dict[str, Any] = {"strategy_config": config, "run": EVIL, "data_digest": EVIL, "problem": EVIL}
    model = {"name": EVIL}
    runs = [
        make_record([[90], [60, 80]], strategy=name, model_config=model, scenario=EVIL, **evil)
        for name in (EVIL, "a$b$ & 'c'")
    ]
    gone = make_record([], classes=[2, 2], strategy="gone", status=Status.DIVERGED, **evil)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        page = Page(to_html([*runs, gone], View(source=EVIL, command=EVIL)))
    assert len(page.all("script")) == 1
    assert page.all("img") == []
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert EVIL in page.shown
    assert "a$b$ & 'c'" in page.shown


def test_nothing_is_loaded_from_anywhere(study: list[Record]) -> None:
    text = to_html(study)
    page = Page(text)
    assert "://" not in text
    assert "@import" not in text
    for tag, attributes in page.elements:
        for name in ("src", "href", "action", "data"):
            target = attributes.get(name) or "#"
            assert target.startswith("#") or (tag, target) == ("link", "data:,")
    assert set(re.findall(r"url\((.)", text)) <= {"#"}
    (policy,) = (meta["content"] for meta in page.all("meta") if "http-equiv" in meta)
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_names_of_elements_are_unique_and_what_refers_to_them_finds_them(study: list[Record]) -> None:
    text = to_html(study)
    names = [attributes["id"] for _, attributes in Page(text).elements if "id" in attributes]
    assert len(names) == len(set(names))
    referred = re.findall(r'(?:aria-controls|aria-labelledby|for)="([^"]+)"|(?:href="|url\()#([^")]+)', text)
    assert {a or b for a, b in referred} <= set(names)


def test_figures_are_named_have_their_numbers_beside_them_and_follow_the_page_s_colours(study: list[Record]) -> None:
    page = Page(to_html(study))
    pictures = page.all("svg")
    assert len(pictures) == 5  # of images: accuracy, forgetting, cost; of one batch of edits: cost, probes
    assert all(picture["role"] == "img" and picture["aria-label"] for picture in pictures)
    assert page.shown.count("Numbers") == len(pictures)
    styles = " ".join(attributes.get("style") or "" for _, attributes in page.elements)
    assert "fill: currentColor" in styles
    assert "#1c1d1f" not in styles
    assert sum("No figure" in text for text in page.shown) == 3


def test_matrices_are_tables_of_numbers(study: list[Record]) -> None:
    page = Page(to_html(study))
    assert sum("matrix" in (each.get("class") or "") for each in page.all("table")) == 4
    start = page.shown.index("after")
    assert page.shown[start : start + 9] == ["after", "1", "2", "3", "1", "90.0", "2", "61.0", "80.0"]


def test_the_head_tells_how_it_was_made_and_what_was_left_out(study: list[Record], make_record: Make) -> None:
    going_on = make_record([[1]], classes=[2] * 3, seed=9, status=Status.RUNNING)
    shown = Page(to_html([*study, going_on], View(command="clbench report runs --format html"))).shown
    assert "Made by: clbench report runs --format html" in shown
    assert "From 13 evaluation runs, commit abc1234" in shown
    assert "Left out: 1 unfinished run" in shown


def test_the_same_records_give_the_same_page(study: list[Record]) -> None:
    assert to_html(study) == to_html(study)


def test_mistakes_are_one_clear_line(make_record: Make) -> None:
    with pytest.raises(ClbenchError, match="no finished evaluation runs in there"):
        to_html([], View(source="there"))
    with pytest.raises(ClbenchError, match=r"unknown column 'last_acuracy'. Did you mean last_accuracy"):
        to_html([make_record()], View(columns=("last_acuracy",)))
