from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from scipy import stats

from clbench.metrics import METRICS, seen_accuracy
from clbench.record import Measurement, Record, Setting, Status
from clbench.report.figures.curves import accuracy_curves
from clbench.report.figures.look import Scene
from tests.report.figures.conftest import drawn, probed, scened, skipped

Make = Callable[..., Record]


def line(figure: Figure, label: str) -> tuple[list[float], list[float]]:
    (found,) = (each for each in figure.axes[0].lines if each.get_label() == label)
    return list(np.asarray(found.get_xdata())), list(np.asarray(found.get_ydata()))


def test_curves_are_the_means_and_bands_the_t_intervals(images: Scene) -> None:
    figure = drawn(accuracy_curves(images)).figure
    bands = [each for each in figure.axes[0].collections if isinstance(each, PolyCollection)]
    assert len(bands) == len(images.rows)
    for row, band in zip(images.rows, bands, strict=True):
        values = np.stack([seen_accuracy(record) for record in row.whole()])
        x, y = line(figure, row.label)
        assert x == [1, 2, 3]
        np.testing.assert_allclose(y, values.mean(0))
        corners = np.asarray(band.get_paths()[0].vertices)
        for t in (1, 2):
            error = stats.sem(values[:, t])
            expected = stats.t.interval(0.95, 2, loc=values[:, t].mean(), scale=error) if error else [y[t]] * 2
            heights = corners[corners[:, 0] == t + 1, 1]
            np.testing.assert_allclose((heights.min(), heights.max()), expected)


def test_one_seed_has_a_curve_and_no_band(make_record: Make) -> None:
    drawing = drawn(accuracy_curves(scened([make_record()])))
    assert line(drawing.figure, "naive")[1] == [90, 70, 70]
    (band,) = drawing.figure.axes[0].collections
    assert not np.isfinite(band.get_datalim(drawing.figure.axes[0].transData).get_points()).any()
    assert "t-interval" not in drawing.caption
    assert drawing.numbers.rows == (("naive", "90.0", "70.0", "70.0"),)


def test_moments_that_were_not_measured_are_left_out(make_record: Make) -> None:
    moments = tuple(Measurement(after, j, 50 + 10 * after, 100) for after in (2, 4) for j in range(after))
    sparse = make_record([], classes=[2] * 4, measurements=moments, costs=make_record([[1]] * 4).costs)
    assert line(drawn(accuracy_curves(scened([sparse]))).figure, "naive") == ([2, 4], [70, 90])


def test_a_diverged_run_counts_as_chance_where_it_was_not_measured(make_record: Make) -> None:
    gone = make_record([[80]], classes=[2, 2], totals=[100, 100], status=Status.DIVERGED)
    assert line(drawn(accuracy_curves(scened([gone]))).figure, "naive")[1] == [80, 25]


def test_curves_end_at_what_the_table_of_the_setting_calls_the_last_accuracy(make_record: Make) -> None:
    told = {Setting.INSTRUCTION: "last_accuracy_macro", Setting.CLASS_INCREMENTAL: "last_accuracy"}
    for setting, name in told.items():
        run = make_record([[9, 1], [5, 60]], totals=[10, 90], setting=setting)
        end = line(drawn(accuracy_curves(scened([run]))).figure, "naive")[1][-1]
        assert end == pytest.approx(METRICS[name].function(run))


def test_one_moment_is_no_curve(make_record: Make) -> None:
    assert skipped(accuracy_curves(scened([make_record([[90]])]))) == "accuracy was measured after 1 experience only"


def test_hundreds_of_experiences_are_one_line_and_a_short_table(make_record: Make) -> None:
    drawing = drawn(accuracy_curves(scened([make_record([[50 + t % 7] * (t + 1) for t in range(200)])])))
    x, y = line(drawing.figure, "naive")
    assert x == list(range(1, 201))
    assert y[:8] == pytest.approx([50, 51, 52, 53, 54, 55, 56, 50])
    assert len(drawing.numbers.heads) <= 16
    assert drawing.numbers.heads[-1] == "200"


def test_texts_are_drawn_after_learning_only(make_record: Make) -> None:
    assert line(drawn(accuracy_curves(scened([probed(make_record, (8, 4, 3))]))).figure, "naive") == ([1, 2], [90, 70])
