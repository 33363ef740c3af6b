from collections.abc import Callable
from typing import Any

import pytest

from clbench.record import ProbeMeasurement, Record, Setting
from clbench.report.figures.look import Drawing, Drawn, Scene, Skipped, scene
from clbench.report.grouping import blocks
from clbench.report.view import View

Make = Callable[..., Record]


@pytest.fixture
def images(make_record: Make) -> Scene:
    """Three seeds of both bounds and of two contestants, three experiences."""
    last = {"naive": 5, "replay": 60, "ewc": 30, "joint": 90}
    return scened(
        make_record([[90], [60 + s, 80], [old + s, 70 - 2 * s, 80 + old // 9]], strategy=name, seed=s)
        for name, old in last.items()
        for s in (0, 1, 2)
    )


def scened(records: Any, columns: tuple[str, ...] = ()) -> Scene:
    (block,) = blocks(records)
    return scene(block, View(columns=columns))


def drawn(result: Drawn) -> Drawing:
    assert isinstance(result, Drawing), result
    return result


def skipped(result: Drawn) -> str:
    assert isinstance(result, Skipped)
    return result.reason


def probed(make_record: Make, facts: tuple[int, int, int], **fields: Any) -> Record:
    """A run on two tasks; a probe that counts answers, of 10, and the likelihood of a text of 10 tokens."""
    units = {"facts": ("accuracy", facts), "tales": ("log_likelihood", (-10, -20, -30))}
    entries = tuple(
        ProbeMeasurement(after, name, unit, float(total), 10)
        for name, (unit, totals) in units.items()
        for after, total in enumerate(totals)
    )
    return make_record([[90, 20], [60, 80]], before=(40, 20), setting=Setting.INSTRUCTION, probes=entries, **fields)
