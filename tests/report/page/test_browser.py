"""The page in a real browser."""

import itertools
import json
import re
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from clbench.record import ProbeMeasurement, Record, Setting
from clbench.report.page.page import to_html

Make = Callable[..., Record]
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="no chromium or google-chrome with chromedriver on PATH"
)
PHONE = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
DESK = {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False}


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER or ""
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def address(make_record: Make, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of a page of bounds, three contestants of two seeds, a long name and a hostile one, and a stream of texts."""
    last = {
        "naive": 5,
        "replay": 60,
        "<script>alert(1)</script>": 30,
        "a_name_" + "of_some_length_" * 6: 40,
        "joint": 90,
    }
    runs = [
        make_record([[90], [60 + s, 80], [old + s, 70, 80]], strategy=name, seed=s)
        for name, old in last.items()
        for s in (0, 1)
    ]
    probes = tuple(ProbeMeasurement(a, "facts", "accuracy", 9.0 - a, 10) for a in range(3))
    texts = make_record([[90, 20], [60, 80]], setting=Setting.INSTRUCTION, probes=probes, strategy="lora")
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(to_html([*runs, texts]), encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def page(browser: webdriver.Chrome, address: str) -> webdriver.Chrome:
    """The page as it is when it has just been opened on a desk."""
    browser.get_log("browser")
    browser.get_log("performance")
    look(browser, DESK, "light")
    browser.get(address)
    return browser


def look(browser: webdriver.Chrome, screen: dict[str, Any], scheme: str) -> None:
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    preferred = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [preferred]})


def labels(page: webdriver.Chrome) -> list[str]:
    """Names of the rows of the first table that can be seen, from the top."""
    table = page.find_element(By.CSS_SELECTOR, "table.board")
    buttons = table.find_elements(By.CSS_SELECTOR, ".line > th button")
    return [button.text for button in buttons if button.is_displayed()]


def head(page: webdriver.Chrome, title: str) -> WebElement:
    buttons = page.find_elements(By.CSS_SELECTOR, "table.board > thead button")
    return next(button for button in buttons if button.text.startswith(title))


def shorten(names: list[str]) -> list[str]:
    return [name[:6] for name in names]


def test_heads_sort_rows_within_the_bounds_and_say_so(page: webdriver.Chrome) -> None:
    assert shorten(labels(page)) == ["naive", "replay", "a_name", "<scrip", "joint"]
    forgetting = head(page, "Forgetting")
    cell = forgetting.find_element(By.XPATH, "..")
    forgetting.click()
    assert cell.get_attribute("aria-sort") == "ascending"
    assert shorten(labels(page)) == ["naive", "replay", "a_name", "<scrip", "joint"]
    forgetting.send_keys(Keys.ENTER)
    assert cell.get_attribute("aria-sort") == "descending"
    assert shorten(labels(page)) == ["naive", "<scrip", "a_name", "replay", "joint"]
    head(page, "Strategy").send_keys(Keys.SPACE)
    assert shorten(labels(page)) == ["naive", "<scrip", "a_name", "replay", "joint"]
    assert cell.get_attribute("aria-sort") is None


def test_the_filter_hides_rows_and_counts_the_rest(page: webdriver.Chrome) -> None:
    field = page.find_element(By.CSS_SELECTOR, "input.filter")
    field.send_keys("RePl")
    assert labels(page) == ["replay"]
    assert page.find_element(By.CSS_SELECTOR, "output").text == "1 of 5 rows"
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys(Keys.DELETE)
    assert len(labels(page)) == 5


@pytest.mark.parametrize("way", ["click", "enter", "space"])
def test_a_row_opens_on_its_runs_and_closes_again(page: webdriver.Chrome, way: str) -> None:
    button = page.find_elements(By.CSS_SELECTOR, ".line > th button")[1]
    runs = page.find_element(By.ID, button.get_attribute("aria-controls") or "")

    def press() -> None:
        button.click() if way == "click" else button.send_keys(Keys.ENTER if way == "enter" else Keys.SPACE)

    assert not runs.is_displayed()
    press()
    assert button.get_attribute("aria-expanded") == "true"
    assert "lr=0.1" in runs.text
    rows = runs.find_elements(By.CSS_SELECTOR, ".inside tbody tr")
    assert [row.text.split()[0] for row in rows] == ["0", "1"]
    assert "abc1234" in rows[0].text
    head(page, "Forgetting").click()
    assert page.execute_script("return arguments[0].nextElementSibling.id", button.find_element(By.XPATH, "../..")) == (
        button.get_attribute("aria-controls")
    )
    press()
    assert not runs.is_displayed()


def test_an_open_row_that_is_filtered_out_takes_its_runs_along(page: webdriver.Chrome) -> None:
    button = page.find_elements(By.CSS_SELECTOR, ".line > th button")[1]
    runs = page.find_element(By.ID, button.get_attribute("aria-controls") or "")
    button.click()
    field = page.find_element(By.CSS_SELECTOR, "input.filter")
    field.send_keys("joint")
    assert not runs.is_displayed()
    field.send_keys(Keys.BACKSPACE * 5)
    assert runs.is_displayed()


def test_nothing_fails_and_nothing_is_asked_of_a_network(page: webdriver.Chrome) -> None:
    page.find_element(By.ID, "theme").click()
    assert page.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert asked
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert sum(url.startswith("file:") for url in asked) == 1


def test_a_phone_scrolls_tables_and_not_the_page(page: webdriver.Chrome) -> None:
    look(page, PHONE, "light")
    page.refresh()
    for button in page.find_elements(By.CSS_SELECTOR, ".line > th button, summary"):
        page.execute_script("arguments[0].click()", button)
    width, room = page.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert (width, room) == (360, 360)
    scrolls = page.execute_script(
        "return [...document.querySelectorAll('.box')].some((box) => box.scrollWidth > box.clientWidth)"
    )
    assert scrolls


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_light_and_dark(page: webdriver.Chrome, scheme: str) -> None:
    look(page, DESK, scheme)
    back = luminance(page.find_element(By.TAG_NAME, "body").value_of_css_property("background-color"))
    assert back > 0.9 if scheme == "light" else back < 0.05
    for selector in ("h1", ".made li", ".line td", ".notes", "figcaption", "a", "svg text", "summary"):
        element = page.find_element(By.CSS_SELECTOR, selector)
        front = luminance(element.value_of_css_property("fill" if "svg" in selector else "color"))
        darker, lighter = sorted((front, back))
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, selector


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_button_turns_light_into_dark_and_back(page: webdriver.Chrome, scheme: str) -> None:
    look(page, DESK, scheme)
    page.refresh()
    body, button = page.find_element(By.TAG_NAME, "body"), page.find_element(By.ID, "theme")
    before = body.value_of_css_property("background-color")
    assert button.text == {"light": "Dark colours", "dark": "Light colours"}[scheme]
    button.click()
    assert body.value_of_css_property("background-color") != before
    button.click()
    assert body.value_of_css_property("background-color") == before


def test_those_who_do_not_see_the_page_find_their_way(page: webdriver.Chrome) -> None:
    assert page.title
    assert page.find_element(By.TAG_NAME, "html").get_attribute("lang") == "en"
    for button in page.find_elements(By.CSS_SELECTOR, ".line > th button, summary"):
        page.execute_script("arguments[0].click()", button)
    levels = [int(each.tag_name[1]) for each in page.find_elements(By.CSS_SELECTOR, "h1, h2, h3, h4")]
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    for element in page.find_elements(By.CSS_SELECTOR, "button, input, a, summary, svg[role=img], [role=region]"):
        assert element.accessible_name, element.get_attribute("outerHTML")
    assert not page.execute_script(
        "return [...document.querySelectorAll('table')].some((t) => !t.querySelector('th[scope=col]'))"
    )


def test_pictures_text_stays_within_the_picture(page: webdriver.Chrome) -> None:
    outside = page.execute_script("""
        return [...document.querySelectorAll("svg text")].filter((text) => {
          const [inner, outer] = [text.getBoundingClientRect(), text.ownerSVGElement.getBoundingClientRect()];
          return inner.left < outer.left - 1 || inner.right > outer.right + 1 || inner.top < outer.top - 1
            || inner.bottom > outer.bottom + 1;
        }).map((text) => text.textContent)""")
    assert outside == []


def luminance(colour: str) -> float:
    """Relative luminance of ``rgb(...)``: WCAG 2.2."""
    parts = np.array([float(part) for part in re.findall(r"[\d.]+", colour)[:3]]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])
