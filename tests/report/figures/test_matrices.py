from collections.abc import Callable

import numpy as np

from clbench.record import Record
from clbench.report.figures.look import Scene, written
from clbench.report.figures.matrices import FIT, accuracy_matrices
from tests.report.figures.conftest import drawn, scened, skipped

Make = Callable[..., Record]


def test_maps_are_the_mean_matrices_in_the_order_of_the_board(images: Scene) -> None:
    drawing = drawn(accuracy_matrices(images))
    maps = {axes.get_title(): axes.images[0].get_array() for axes in drawing.figure.axes if axes.images}
    assert list(maps) == ["naive", "replay", "ewc", "joint"]
    expected: list[list[float]] = [[90, np.nan, np.nan], [61, 80, np.nan], [61, 68, 86]]
    found = maps["replay"]
    assert found is not None
    np.testing.assert_allclose(np.asarray(np.ma.filled(found, np.nan), np.float64), expected)
    assert drawing.numbers.rows[1] == ("replay", "61.0", "68.0", "86.0")


def test_cells_that_were_not_measured_hold_no_number(images: Scene) -> None:
    panel = drawn(accuracy_matrices(images)).figure.axes[0]
    assert len(panel.texts) == 6


def test_only_as_many_maps_as_fit_and_the_rest_is_told(make_record: Make) -> None:
    shown = scened(make_record(strategy=f"s{i:02}") for i in range(FIT + 3))
    drawing = drawn(accuracy_matrices(shown))
    assert sum(bool(axes.images) for axes in drawing.figure.axes) == FIT
    assert drawing.caption.startswith(f"The first {FIT} rows of the table; 3 others left out.")


def test_long_streams_are_drawn_without_numbers_in_cells(make_record: Make) -> None:
    drawing = drawn(accuracy_matrices(scened([make_record([[t % 100] * (t + 1) for t in range(150)])])))
    assert not drawing.figure.axes[0].texts
    assert written(drawing, "png").startswith(b"\x89PNG")


def test_one_experience_has_no_matrix(make_record: Make) -> None:
    assert "one experience" in skipped(accuracy_matrices(scened([make_record([[90]])])))
