import numpy as np
import pytest

from clbench.report.heat import LIMIT, RGB, colours, shown


def luminance(colour: RGB) -> float:
    """WCAG 2.2, "relative luminance"."""
    parts = np.array(colour) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("percent", range(-10, 111, 3))
def test_numbers_can_be_read_on_every_background(percent: int) -> None:
    darker, lighter = sorted(map(luminance, colours(percent)))
    assert (lighter + 0.05) / (darker + 0.05) >= 4.5


def test_the_more_is_known_the_deeper_the_colour() -> None:
    depths = [luminance(colours(percent)[0]) for percent in range(101)]
    assert depths == sorted(depths, reverse=True)


@pytest.mark.parametrize("size", [1, 2, LIMIT, LIMIT + 1, 400])
def test_what_is_shown_of_many_goes_from_the_first_to_the_last(size: int) -> None:
    places = shown(size)
    assert (places[0], places[-1]) == (0, size - 1)
    assert len(places) == min(size, LIMIT)
