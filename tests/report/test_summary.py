import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from clbench.errors import ClbenchError
from clbench.record import Part, Phase, ProbeMeasurement, Record, Selection, Setting, Status
from clbench.report.heat import mean_matrix
from clbench.report.summary import amount, render, show_runs, to_svg
from clbench.report.view import View

Make = Callable[..., Record]
TUNED = Selection("two_phase, random", "average_incremental_accuracy", 3, (100, 101), 88.8, tuple("abcdef"), "f" * 64)
HALF = {"part": Part.EVALUATION_HALF, "protocol": "two_phase", "selection": TUNED}


@pytest.fixture
def console() -> Console:
    return Console(width=100, file=io.StringIO(), force_terminal=True, color_system=None, legacy_windows=False)


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    text = re.sub(r"\x1b\[[0-9;]*m", "", console.file.getvalue())
    assert max(map(len, text.splitlines())) <= 100
    return text


def test_leaderboard_has_the_numbers_in_100_columns(make_record: Make, console: Console) -> None:
    runs = [
        make_record([[90], [60 + s, 80]], strategy=name, seed=s, strategy_config={"lr": lr, "memory": 500}, **HALF)
        for name, lr in (("naive", 0.1), ("a_strategy_of_some_length", 0.01), ("a_strategy_of_some_length", 0.1))
        for s in range(3)
    ]
    broken = make_record([], classes=[2, 2], strategy="broken", status=Status.DIVERGED, **HALF)
    render([*runs, broken, make_record([[1]], status=Status.RUNNING)], console)
    text = printed(console)
    assert text.count("80.2 ± 0.6") == 3  # average incremental accuracy of 90 and 70, 70.5, 71
    assert "88.8" in text
    assert "1 (1†)" in text
    assert "Left out: 1 unfinished run" in text


def test_tuning_runs_are_shown_nowhere(make_record: Make, console: Console) -> None:
    tuning = make_record([[11], [11, 11], [11, 11, 11]], phase=Phase.TUNING, part=Part.TUNING_HALF)
    render([make_record(), tuning], console)
    assert "11.0" not in printed(console)


def test_summary_of_runs_has_matrix_metrics_costs_and_choice(make_record: Make, console: Console) -> None:
    asked = {"strategy.epochs": "5"}
    config = {"lr": 0.03, "epochs": 5}
    runs = [
        make_record([[90], [60 + 2 * s, 80]], seed=s, asked=asked, strategy_config=config, **HALF) for s in range(3)
    ]
    show_runs(runs, console, Path("runs/here"))
    text = printed(console)
    for expected in ("62.0", "Learning acc. ↑", "85.0 %", "28.0 pp", "n = 3", "3.0 s", "2.0 MB", "64.0 kB", "12.3 k"):
        assert expected in text
    assert "88.8" in text
    assert "6 tuning runs (3 trials x 2 seeds)" in text
    assert re.search(r"\blr=0\.03\b", text)
    assert re.search(r"\bepochs=5\b", text)
    assert text.rstrip().endswith("runs/here")


@pytest.mark.parametrize("size", [1, 10, 50])
def test_matrices_of_any_length_keep_within_the_width(make_record: Make, console: Console, size: int) -> None:
    record = make_record([[100] * (t + 1) for t in range(size)])
    show_runs([record], console, Path("runs"))
    assert "100.0" in printed(console)


def test_mean_matrix_is_over_the_runs_where_it_was_measured(make_record: Make) -> None:
    mean = mean_matrix([make_record([[90], [60, 80]]), make_record([[80], [50, 70]], seed=1)])
    np.testing.assert_array_equal(mean, [[85, np.nan], [55, 75]])


def test_svg_holds_the_leaderboard_and_loads_nothing(make_record: Make) -> None:
    picture = to_svg([make_record()], View(command="results"))
    assert picture.startswith("<svg")
    assert "naive" in picture
    assert "@font-face" not in picture
    assert "url(http" not in picture
    assert "href" not in picture


def texts(make_record: Make, **fields: Any) -> Record:
    """A run on two tasks, with three probes."""
    scores = {"facts": (8, 9, 4), "skills": (6, 5, 7), "old_tales": (-10 * np.log(2), -9, -10 * np.log(6))}
    units = {"old_tales": "log_likelihood"}
    entries = tuple(
        ProbeMeasurement(after, name, units.get(name, "accuracy"), float(total), 10)
        for name, totals in scores.items()
        for after, total in enumerate(totals)
    )
    chosen = {"before": (41, 12), "setting": Setting.INSTRUCTION, "probes": entries} | fields
    return make_record([[87, 23], [65, 98]], **chosen)


def test_texts_are_summed_up_with_what_could_be_done_before_and_what_is_left(
    make_record: Make, console: Console
) -> None:
    model = {"name": "pretrained_llama", "adapter": {"rank": 8, "targets": ["all-linear"]}}
    show_runs([texts(make_record, seed=s, model_config=model) for s in (0, 1)], console, Path("runs"))
    text = printed(console)
    assert "instruction tuning, all tasks, 2 experiences, model pretrained_llama" in text
    rows = [re.sub(r"\s+", " ", line).strip() for line in text.splitlines()]
    matrix = rows[rows.index(next(row for row in rows if row.startswith("after"))) :][2:5]
    assert matrix == ["0 41.0 12.0", "1 87.0 23.0", "2 65.0 98.0"]
    for expected in (
        "Last acc. (macro) ↑ 81.5 % [81.5, 81.5] 95 % interval, n = 2",
        "BWT (TRACE) ↑ -11.0 pp [-11.0, -11.0] 95 % interval, n = 2",
        "Learning acc. ↑ 92.5 % [92.5, 92.5] 95 % interval, n = 2",
        "Probes, change ↑ -15.0 pp [-15.0, -15.0] 95 % interval, n = 2",
        "Facts at the end 40.0 % 80.0 before; never trained here",
        "Skills at the end 70.0 % 60.0 before; never trained here",
        "Old tales at the end 6.0 2.0 before; perplexity, never trained here",
    ):
        assert expected in rows
    assert "adapter.rank=8" in text


def test_edits_are_summed_up_with_what_was_seen_again_and_what_blurs_them(make_record: Make, console: Console) -> None:
    stream = {"edits": 100, "asked": 25, "repeated": 0, "contradicting": 3, "leaking": 2, "moments": [1, 2]}
    probes = {"generalisation": "gain", "capability": "accuracy"}
    entries = tuple(ProbeMeasurement(a, name, unit, 4.0 + a, 10) for name, unit in probes.items() for a in range(3))
    fields: dict[str, Any] = {"setting": Setting.EDITING, "probes": entries, "access": "cumulative from base"}
    runs = [make_record([[87], [65, 98]], before=(1, 2), notes={"stream": stream}, seed=s, **fields) for s in (0, 1)]
    show_runs(runs, console, Path("runs"))
    rows = [re.sub(r"\s+", " ", line).strip() for line in printed(console).splitlines()]
    text = " ".join(rows)
    assert "editing, all edits, 2 experiences" in text
    assert "Reliability ↑ 81.5 % [81.5, 81.5] 95 % interval, n = 2" in text
    assert "Generalisation at the end 60.0 % 40.0 before" in rows
    assert "Access to the past cumulative from base 100 edits, 3 contradicting, 2 leaking, asked about 25 of" in text
    assert "19.6 points at most" in text  # 1.96 sqrt(1/4 / 25)
    assert "repeated" not in text


def test_images_are_summed_up_as_before(make_record: Make, console: Console) -> None:
    tasks = {"before": (41, 12), "setting": Setting.TASK_INCREMENTAL}
    show_runs([make_record([[87, 23], [65, 98]], **tasks)], console, Path("runs"))
    text = printed(console)
    assert "41.0" not in text
    assert "at the end" not in text
    assert "adapter" not in text
    for title in ("Avg. inc. acc. ↑", "Last acc. ↑", "Forgetting ↓", "Learning acc. ↑"):
        assert title in text


def test_nothing_to_show_is_one_clear_line(console: Console) -> None:
    with pytest.raises(ClbenchError, match="no finished evaluation runs in runs"):
        show_runs([], console, Path("runs"))
    with pytest.raises(ClbenchError, match="no finished evaluation runs in there"):
        render([], console, View(source="there"))


def test_amounts_are_for_people() -> None:
    assert [amount(v, "B") for v in (0, 999, 64_000, 2.5e6, 3e9)] == ["0 B", "999 B", "64.0 kB", "2.5 MB", "3.0 GB"]
    assert amount(1234.5, "s") == "1,234.5 s"
    assert amount(float("nan"), "B") == "\N{EN DASH}"
