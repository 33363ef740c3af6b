from collections.abc import Callable

import numpy as np
import pytest

from clbench.record import Record
from clbench.report.figures.look import Scene
from clbench.report.figures.probes import probes_before_after
from tests.report.figures.conftest import drawn, probed, scened, skipped

Make = Callable[..., Record]


def test_each_probe_has_a_panel_with_its_means_before_and_after(make_record: Make) -> None:
    shown = scened(probed(make_record, (8, 4, last), seed=s) for s, last in enumerate((3, 5)))
    drawing = drawn(probes_before_after(shown))
    panels = {axes.get_title(): axes for axes in drawing.figure.axes}
    assert list(panels) == ["Facts ↑", "Tales ↓"]
    ends = {title: np.asarray(axes.lines[0].get_xdata()).tolist() for title, axes in panels.items()}
    assert ends["Facts ↑"] == [80, 40]
    assert ends["Tales ↓"] == pytest.approx([np.e, np.e**3])
    dots = next(line for line in panels["Facts ↑"].lines if line.get_marker() == ".")
    assert np.asarray(dots.get_xdata()).tolist() == [30, 50]
    assert drawing.numbers.heads[1:3] == ("Facts before", "Facts after")
    assert drawing.numbers.rows == (("naive", "80.0", "40.0", "2.7", "20.1"),)


def test_what_the_table_shows_comes_before_the_rest(make_record: Make) -> None:
    shown = scened([probed(make_record, (8, 4, 3))], ("probe.tales", "last_accuracy"))
    assert [axes.get_title() for axes in drawn(probes_before_after(shown)).figure.axes] == ["Tales ↓"]


def test_names_of_thirty_rows_do_not_overlap(make_record: Make) -> None:
    configs = [{"a_rather_long_name": i, "another_long_name": -i, "yet_another": i} for i in range(30)]
    shown = scened(probed(make_record, (8, 4, 3), strategy_config=config) for config in configs)
    figure = drawn(probes_before_after(shown)).figure
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    assert len(boxes) == 30
    assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])


def test_images_have_no_probes(images: Scene) -> None:
    assert skipped(probes_before_after(images)) == "nothing is probed beside the stream"
