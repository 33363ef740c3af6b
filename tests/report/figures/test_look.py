import itertools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from numpy.typing import NDArray

from clbench.errors import ClbenchError
from clbench.record import Record
from clbench.report.figures.catalogue import FIGURES, drawings
from clbench.report.figures.look import BOUND, COLOURS, MARKERS, Drawing, Scene, written
from clbench.report.grouping import blocks
from tests.report.figures.conftest import scened

ROOT = Path(__file__).parents[3]
Make = Callable[..., Record]
# Machado, Oliveira and Fernandes 2009, table of severity 1.0, on linear RGB
DICHROMATS = {
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    "normal": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(colour: str) -> NDArray[np.float64]:
    parts = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def lab(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    x, y, z = XYZ @ rgb / [0.9505, 1, 1.089]
    fx, fy, fz = (np.cbrt(v) if v > 0.008856 else 7.787 * v + 16 / 116 for v in (x, y, z))
    return np.array([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)])


@pytest.mark.parametrize("kind", DICHROMATS)
def test_colours_are_told_apart_by_everybody(kind: str) -> None:
    seen = [lab(np.clip(np.array(DICHROMATS[kind]) @ linear(colour), 0, 1)) for colour in (*COLOURS, BOUND)]
    assert min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(seen, 2)) > 20


@pytest.mark.parametrize("paper", ["#ffffff", "#14161a"])
def test_colours_are_seen_on_white_and_on_dark(paper: str) -> None:
    for colour in (*COLOURS, BOUND):
        darker, lighter = sorted(float(XYZ[1] @ linear(c)) for c in (colour, paper))
        assert (lighter + 0.05) / (darker + 0.05) >= 3


def test_every_row_of_a_large_block_looks_different_and_bounds_are_grey(make_record: Make) -> None:
    names = ["naive", "joint", *(f"s{i:02}" for i in range(len(COLOURS) * len(MARKERS)))]
    styles = scened(make_record(strategy=name) for name in names).styles
    assert len(set(styles.values())) == len(names)
    assert {label for label, style in styles.items() if style.colour == BOUND} == {"naive", "joint"}


def test_looks_follow_names_and_not_results(make_record: Make) -> None:
    def looks(a: int, b: int) -> object:
        return scened([make_record([[a]], strategy="a"), make_record([[b]], strategy="b")]).styles

    assert looks(10, 90) == looks(90, 10)


@pytest.mark.parametrize("kind", ["pdf", "svg", "png"])
def test_the_same_records_give_the_same_bytes_and_leave_no_trace(make_record: Make, kind: str) -> None:
    before = dict(matplotlib.rcParams)
    made = []
    for _ in range(2):
        (block,) = blocks([make_record(seed=s) for s in (0, 1)])
        found = drawings(block)
        assert list(found) == list(FIGURES)
        made.append([written(each, kind) for each in found.values() if isinstance(each, Drawing)])
    assert made[0] == made[1]
    assert len(made[0]) == 4
    assert dict(matplotlib.rcParams) == before


def test_pyplot_and_its_windows_are_never_imported() -> None:
    code = "import sys, clbench.report.figures.catalogue; print('matplotlib.pyplot' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_svg_keeps_text_as_text(images: Scene) -> None:
    svg = written(drawn_accuracy(images), "svg").decode()
    assert ">replay</text>" in svg


def test_an_unknown_format_is_refused(images: Scene) -> None:
    with pytest.raises(ClbenchError, match="format must be one of pdf, png, svg, got 'jpg'"):
        written(drawn_accuracy(images), "jpg")


def drawn_accuracy(shown: Scene) -> Drawing:
    found = FIGURES["accuracy"][1](shown)
    assert isinstance(found, Drawing)
    return found
