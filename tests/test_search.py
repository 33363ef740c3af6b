"""Searching: what is proposed, and what the first trial is."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any

import pytest

from clbench.search import search
from clbench.space import Choice, LogUniform, Range, Sampler, Uniform


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


RANGES: dict[str, Range] = {
    "colour": Choice((Colour.RED, Colour.BLUE)),
    "share": Uniform(0.1, 0.9),
    "rate": LogUniform(1e-3, 1e-1),
}


def tried(start: dict[str, Any], sampler: Sampler) -> list[dict[str, Any]]:
    def score(draws: Sequence[dict[str, Any]]) -> list[float]:
        return [draw["rate"] for draw in draws]

    return [draw for draw, _ in search(RANGES, start, 12, sampler, 0, 3, score)]


@pytest.mark.parametrize("sampler", Sampler)
def test_named_choices_come_as_they_are_and_every_draw_lies_in_its_range(sampler: Sampler) -> None:
    start = {"colour": Colour.BLUE, "share": 0.5, "rate": 0.01}
    first, *others = tried(start, sampler)
    assert first == start
    assert {draw["colour"] for draw in others} == set(Colour)
    assert all(0.1 <= draw["share"] <= 0.9 and 1e-3 <= draw["rate"] <= 1e-1 for draw in others)


@pytest.mark.parametrize("sampler", Sampler)
def test_a_default_that_something_else_decides_is_tried_first_and_only_then(sampler: Sampler) -> None:
    start = {"colour": None, "share": None, "rate": 0.01}
    first, *others = tried(start, sampler)
    assert first == start
    assert None not in [value for draw in others for value in draw.values()]
