import random
from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.figure import Figure

from clbench.record import Cost, Record
from clbench.report.figures.look import Scene
from clbench.report.figures.scatter import cost_accuracy, forgetting_plasticity, front
from tests.report.figures.conftest import drawn, probed, scened, skipped

Make = Callable[..., Record]


def point(figure: Figure, label: str) -> tuple[float, float]:
    (found,) = (line for line in figure.axes[0].lines if line.get_label() == label)
    return float(np.asarray(found.get_xdata())[0]), float(np.asarray(found.get_ydata())[0])


def lasting(seconds: float) -> tuple[Cost, ...]:
    return tuple(Cost(t, seconds / 2, 1.0, 0.1, 0.1, 1, 1, 1, 1) for t in range(2))


def test_means_and_seeds_are_the_metrics_of_the_rows(images: Scene) -> None:
    figure = drawn(forgetting_plasticity(images)).figure
    for row in images.rows:
        x, y = row.interval("forgetting_max_prev").mean, row.interval("learning_accuracy").mean
        assert point(figure, row.label) == pytest.approx((x, y))
    dots = [line for line in figure.axes[0].lines if line.get_marker() == "."]
    drawn_seeds = {(float(x), float(y)) for dot in dots for x, y in np.asarray(dot.get_xydata())}
    values = [row.values for row in images.rows]
    assert drawn_seeds == {
        pair for v in values for pair in zip(v["forgetting_max_prev"], v["learning_accuracy"], strict=True)
    }


def test_few_short_names_stand_beside_their_points_apart_from_each_other(images: Scene) -> None:
    figure = drawn(forgetting_plasticity(images)).figure
    assert {text.get_text() for text in figure.axes[0].texts} == {row.label for row in images.rows}
    assert not figure.legends
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])


def test_many_or_long_names_stand_in_a_legend_outside(make_record: Make) -> None:
    runs = [make_record([[90], [60 - i, 80]], strategy=f"s{i}") for i in range(30)]
    figure = drawn(forgetting_plasticity(scened(runs))).figure
    (legend,) = figure.legends
    figure.draw_without_rendering()
    assert len(legend.get_texts()) == 30
    assert not legend.get_window_extent().overlaps(figure.axes[0].get_window_extent())
    assert legend.get_window_extent().height < figure.bbox.height


def test_instruction_streams_are_held_against_what_their_table_shows(make_record: Make) -> None:
    figure = drawn(forgetting_plasticity(scened([probed(make_record, (8, 4, 3))]))).figure
    assert point(figure, "naive") == (-15, 85)
    assert figure.axes[0].get_xlabel() == "BWT (TRACE) ↑ (pp)"


def test_nothing_is_forgotten_in_one_experience(make_record: Make) -> None:
    assert "one experience" in skipped(forgetting_plasticity(scened([make_record([[90]])])))


def test_cost_is_on_a_logarithmic_axis_from_a_decade_on(make_record: Make) -> None:
    for slow, scale in ((9.0, "linear"), (100.0, "log")):
        runs = [make_record([[90], [60, 80]], strategy=s, costs=lasting(c)) for s, c in (("a", 1.0), ("b", slow))]
        figure = drawn(cost_accuracy(scened(runs))).figure
        assert figure.axes[0].get_xscale() == scale
        assert point(figure, "b") == (slow, 80)


def test_bounds_are_not_on_the_front_and_the_first_column_is_up(make_record: Make) -> None:
    made = {"naive": (1, 99), "a": (2, 50), "b": (3, 40), "c": (4, 70), "joint": (5, 98)}
    runs = [make_record([[90], [last, last]], strategy=s, costs=lasting(c)) for s, (c, last) in made.items()]
    drawing = drawn(cost_accuracy(scened(runs, ("last_accuracy",))))
    (line,) = (line for line in drawing.figure.axes[0].lines if line.get_label() == "front")
    assert np.asarray(line.get_xydata()).tolist() == [[2, 50], [4, 70]]
    assert drawing.caption.endswith("Pareto front of what is ranked (grey line): a; c.")
    down = drawn(cost_accuracy(scened(runs, ("forgetting_max_prev",))))
    assert down.caption.endswith("Pareto front of what is ranked (grey line): a; c.")


def test_runs_whose_cost_is_unknown_are_not_drawn(make_record: Make) -> None:
    assert "no run has both" in skipped(cost_accuracy(scened([make_record([[90], [60, 80]], costs=())])))


def test_the_front_is_what_brute_force_finds() -> None:
    draw = random.Random(0)
    for _ in range(200):
        points = [(draw.randint(0, 6), draw.randint(0, 6)) for _ in range(draw.randint(1, 9))]
        beaten = [
            any(c <= cost and w >= worth and (c, w) != (cost, worth) for c, w in points) for cost, worth in points
        ]
        found = front([c for c, _ in points], [w for _, w in points])
        assert sorted(found) == [i for i, lost in enumerate(beaten) if not lost]
