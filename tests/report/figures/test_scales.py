import pytest
from matplotlib.figure import Figure

from clbench.report.figures.scales import logarithmic, spans_a_decade


def test_a_decade_needs_positive_values() -> None:
    assert spans_a_decade([1, 10.1])
    assert not spans_a_decade([1, 10])
    assert not spans_a_decade([0, 100])


@pytest.mark.parametrize(
    ("highest", "wide", "numbers"),
    [
        (100, True, ["1", "2", "5", "10", "20", "50", "100"]),
        (100, False, ["1", "10", "100"]),
        (10_000, True, ["1", "10", "100", "1000", "10000"]),
    ],
)
def test_a_logarithmic_axis_has_plain_numbers_and_more_of_them_where_there_is_room(
    highest: float, wide: bool, numbers: list[str]
) -> None:
    axes = Figure(figsize=(8, 3)).subplots()
    axes.set_xlim(1, highest)
    logarithmic(axes, wide=wide)
    low, high = axes.get_xlim()
    shown = [label.get_text() for label in axes.get_xticklabels() if low <= label.get_position()[0] <= high]
    assert shown == numbers
    assert not any(label.get_text() for label in axes.get_xticklabels(minor=True))
