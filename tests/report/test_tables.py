import io
import math
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from clbench.errors import ClbenchError
from clbench.metrics import METRICS, average_incremental_accuracy, interval
from clbench.record import Part, Phase, ProbeMeasurement, Record, Selection, Setting, Status
from clbench.report import frame, wording
from clbench.report.grouping import blocks
from clbench.report.latex import escape
from clbench.report.tables import FORMATS, report
from clbench.report.view import View

Make = Callable[..., Record]
TUNED = Selection("two_phase, random", "average_incremental_accuracy", 3, (100, 101), 88.8, tuple("abcdef"), "f" * 64)
ENGINES = [engine for engine in ("pdflatex", "lualatex", "tectonic") if shutil.which(engine)]


@pytest.fixture
def records(make_record: Make) -> list[Record]:
    """Two seeds of a good, a middling and a bad strategy, and of both bounds."""
    last = {"naive": (0, 0), "good_one": (70, 90), "middle": (60, 80), "bad": (10, 95), "joint": (90, 99)}
    return [
        make_record([[90], [old + seed, new + seed % 2]], strategy=name, seed=seed)
        for name, (old, new) in last.items()
        for seed in (0, 1)
    ]


def read(text: str) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(text), engine="python")


def markdown_row(text: str, label: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {label} ")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_csv_reads_back_to_the_very_same_floats(make_record: Make) -> None:
    runs = [make_record([[s], [s + 3, 7 * s + 1]], totals=[13 + s, 97], seed=s) for s in range(1, 8)]
    table = read(report(runs, "csv")).set_index("metric")
    for name, metric in METRICS.items():
        expected = interval([metric.function(record) for record in runs])
        got = table.loc[name, ["mean", "std", "low", "high", "n"]]
        assert list(got)[:4] == pytest.approx(list(expected)[:4], rel=0, abs=0, nan_ok=True)
        assert got["n"] == expected.n
    assert table.loc["last_accuracy", "seeds"] == "1 2 3 4 5 6 7"


def test_csv_names_the_conditions(make_record: Make) -> None:
    run = make_record(part=Part.EVALUATION_HALF, protocol="two_phase", selection=TUNED)
    row = read(report([run], "csv")).iloc[0]
    conditions = ["scenario", "strategy", "part", "protocol", "selected_by", "commit", "tuning_runs", "tuning_score"]
    expected = ["digits", "naive", "evaluation half", "two_phase", "two_phase, random", "abc1234", 6, 88.8]
    assert row[conditions].tolist() == expected


def test_one_row_per_run_in_the_frame_of_runs(records: list[Record]) -> None:
    table = frame.runs(records)
    assert len(table) == len(records)
    by_run = table.set_index("run")["average_incremental_accuracy"]
    assert all(by_run[record.run] == average_incremental_accuracy(record) for record in records)


def test_intransigence_is_against_the_upper_bound_of_the_same_seed(records: list[Record]) -> None:
    table = frame.runs([r for r in records if not (r.strategy == "joint" and r.seed == 1)])
    values = table[table["strategy"] == "middle"].set_index("seed")["intransigence"]
    assert values[0] == (99 - 80) / 2
    assert pd.isna(values[1])


def test_intransigence_is_never_against_a_run_on_other_data(make_record: Make) -> None:
    run, joint = make_record([[70]]), make_record([[90]], strategy="joint")
    for other, expected in ((joint, 20), (replace(joint, data_digest="other"), math.nan)):
        values = frame.runs([run, other]).set_index("strategy")["intransigence"]
        assert values["naive"] == pytest.approx(expected, nan_ok=True)


def test_intransigence_may_be_asked_for_as_a_column_and_tells_where_runs_are_missing(records: list[Record]) -> None:
    without = [r for r in records if not (r.strategy == "joint" and r.seed == 1)]
    text = report(without, "markdown", View(columns=("last_accuracy", "intransigence")))
    assert [markdown_row(text, label)[2] for label in ("middle", "bad")] == ["9.5\\*", "**2.0**\\*"]
    assert "mean over the runs where it is defined, fewer than n" in text


def test_markdown_marks_best_and_second_by_the_direction_of_each_metric(records: list[Record]) -> None:
    text = report(records, "markdown")
    good, middle, bad = (markdown_row(text, label) for label in ("good\\_one", "middle", "bad"))
    assert good[2].startswith("**80.5")  # last accuracy, the higher the better
    assert middle[2].startswith("<u>70.5")
    assert bad[2].startswith("53.")
    assert good[3].startswith("**19.5")  # forgetting, the lower the better
    assert middle[3].startswith("<u>29.5")
    assert bad[3].startswith("79.5")
    assert bad[4].startswith("**92.8")  # learning accuracy


def test_latex_marks_best_and_second_as_markdown_does(records: list[Record]) -> None:
    text = report(records, "latex")
    (good,) = [line for line in text.splitlines() if line.startswith(r"good\_one &")]
    (middle,) = [line for line in text.splitlines() if line.startswith("middle &")]
    assert good.split(" & ")[3].startswith(r"\bfseries 19.5 \pm ")
    assert middle.split(" & ")[3].startswith(r"{\phantom{0}\underline{$29.5 \pm "), "as wide as the widest"


@pytest.mark.parametrize("kind", ["latex", "markdown"])
def test_bounds_are_never_marked(records: list[Record], kind: str) -> None:
    lines = [line for line in report(records, kind).splitlines() if line.lstrip("| ").startswith(("joint ", "naive "))]
    assert len(lines) == 2
    assert not any(mark in line for line in lines for mark in ("**", "<u>", "bfseries", "underline"))


def test_bounds_are_ruled_off_in_latex_with_the_upper_one_last(records: list[Record]) -> None:
    text = report(records, "latex")
    body = text[text.index(r"\midrule") : text.index(r"\bottomrule")]
    sections = [section.split()[0] for section in body.split(r"\midrule")[1:]]
    assert sections[0] == "naive"
    assert sections[2] == "joint"
    assert "|" not in text[text.index(r"\begin{tabular}") :]


def test_bounds_are_named_by_the_caller(records: list[Record]) -> None:
    text = report(records, "markdown", View(upper_bound="good_one", lower_bound="bad"))
    assert markdown_row(text, "joint")[2].startswith("**")
    assert "**" not in "".join(markdown_row(text, "good\\_one"))


def test_equal_printed_numbers_share_the_first_place(make_record: Make) -> None:
    runs = [make_record([[n]], strategy=name, totals=[3000]) for name, n in (("a", 1500), ("b", 1501), ("c", 9))]
    text = report(runs, "markdown")
    assert [markdown_row(text, label)[1] for label in "abc"] == ["**50.0**", "**50.0**", "<u>0.3</u>"]


def test_nothing_is_best_among_one(make_record: Make) -> None:
    text = report([make_record(strategy="alone")], "latex")
    assert "mathbf" not in text
    assert "Best in bold" not in text


def test_tuning_runs_are_in_no_mean(make_record: Make) -> None:
    run = make_record(selection=TUNED)
    tuning = make_record([[1], [1, 1], [1, 1, 1]], phase=Phase.TUNING, part=Part.TUNING_HALF, seed=100, run="tuning")
    for kind in FORMATS:
        assert report([run, tuning], kind) == report([run], kind)
    assert "88.8" in report([run], "markdown")
    assert "6 tuning runs (3 trials x 2 seeds)" in report([run], "latex")


def test_diverged_runs_are_in_the_mean_at_chance_and_counted(make_record: Make) -> None:
    fine = make_record([[90], [60, 80]], seed=0)
    broken = make_record([], classes=[2, 2], totals=[100, 100], seed=1, status=Status.DIVERGED)
    text = report([fine, broken], "markdown")
    row = markdown_row(text, "naive")
    assert row[2].startswith(f"{(70 + 25) / 2:.1f} ")
    assert row[-1] == "2 (1†)"
    assert "1 run diverged" in text


def test_unfinished_runs_are_left_out_and_counted(make_record: Make) -> None:
    going_on = [make_record([[1]], classes=[2] * 3, seed=s, status=Status.RUNNING) for s in (5, 6)]
    text = report([make_record(), *going_on], "markdown")
    assert markdown_row(text, "naive")[-1] == "1"
    assert "Left out: 2 unfinished runs" in text
    assert "Left out" not in report([make_record()], "markdown")


def test_rows_of_one_strategy_are_told_apart_by_the_fields_that_differ(make_record: Make) -> None:
    configs = [{"lr": 0.1, "epochs": 5, "seed": 1}, {"lr": 0.01, "epochs": 5, "seed": 1}]
    runs = [make_record(strategy="ewc", strategy_config=config) for config in configs]
    (block,) = blocks([*runs, make_record(strategy="other")])
    assert {row.label for row in block.rows} == {"ewc (lr=0.1)", "ewc (lr=0.01)", "other"}


def test_how_hyper_parameters_were_chosen_tells_rows_apart_where_their_values_do_not(make_record: Make) -> None:
    (block,) = blocks([make_record(), make_record(selection=replace(TUNED, by="tpe"), run="2")])
    labels = sorted(row.label for row in block.rows)
    assert labels[0].startswith("naive (selected_by=given, ")
    assert labels[1].startswith("naive (selected_by=tpe, ")


def test_runs_that_may_not_be_compared_stand_in_different_blocks(make_record: Make) -> None:
    others: list[dict[str, object]] = [
        {},
        {"part": Part.EVALUATION_HALF},
        {"protocol": "two_phase"},
        {"split_seed": 3},
        {"swapped": True},
        {"scenario_config": {"increment": 5}},
        {"scenario_version": 2},
        {"model_config": {"name": "resnet18"}},
    ]
    grouped = blocks([make_record(run=str(i), **fields) for i, fields in enumerate(others)])
    assert len(grouped) == len({block.title for block in grouped}) == len(others)
    assert all(len(block.rows) == 1 for block in grouped)


def texts(make_record: Make, rank: int = 0, **fields: Any) -> Record:
    """A run on two tasks with two probes, of a language model whose weights or adapters train."""
    entries = tuple(
        ProbeMeasurement(after, name, unit, total, 10)
        for name, unit, totals in (("facts", "accuracy", (8, 4, 3.0)), ("tales", "log_likelihood", (-1, -2, -3.0)))
        for after, total in enumerate(totals)
    )
    model = {"name": "llama", "adapter": {"rank": rank, "alpha": None}}
    chosen = {"setting": Setting.INSTRUCTION, "probes": entries, "model_config": model, "before": (40, 20)} | fields
    return make_record([[90, 20], [60, 80]], **chosen)


def test_texts_have_columns_of_their_own_and_images_theirs(make_record: Make) -> None:
    text = report([texts(make_record), make_record([[90], [60, 80]])], "markdown")
    heads = [re.findall(r"\| ([^|]*[↑↓])", line) for line in text.splitlines() if line.startswith("| Strategy")]
    assert [[head.strip() for head in row] for row in heads] == [
        ["Last acc. (macro) ↑", "BWT (TRACE) ↑", "Learning acc. ↑", "Probes, change ↑"],
        ["Avg. inc. acc. ↑", "Last acc. ↑", "Forgetting ↓", "Learning acc. ↑"],
    ]
    assert text.count("Forgetting is forgetting\\_max\\_prev") == 1
    assert "a seed draws the examples and the batches" in text
    assert "| naive | 70.0 | -15.0 | 85.0 | -50.0 |" in text


def edited(make_record: Make, access: str = "no replay", **fields: Any) -> Record:
    """A run on six edits in two experiences."""
    scores = {"generalisation": ("gain", 5), "old_answer": ("residue", 1), "capability": ("accuracy", 7)}
    entries = tuple(
        ProbeMeasurement(after, name, unit, float(right), 10)
        for name, (unit, right) in scores.items()
        for after in (0, 1, 2)
    )
    chosen = {"setting": Setting.EDITING, "probes": entries, "access": access, "strategy": "locft_bf"} | fields
    return make_record([[90], [60, 80]], **chosen)


def test_edits_have_columns_of_their_own_and_what_was_seen_of_the_past_beside_them(make_record: Make) -> None:
    ways = ("no replay", "cumulative from base")
    runs = [edited(make_record, way, strategy_config={"access": way}) for way in ways]
    text = report([*runs, edited(make_record, strategy="ft_m")], "markdown")
    (heads,) = (line for line in text.splitlines() if line.startswith("| Strategy"))
    assert [head.strip() for head in heads.strip("|").split("|")] == [
        *("Strategy", "Reliability ↑", "Generalisation ↑", "Capability ↑"),
        *("Access", "Learning time (s)", "n"),
    ]
    shown = [cell.strip("*") for cell in markdown_row(text, "ft\\_m")[1:5]]
    assert shown == ["70.0", "50.0", "70.0", "no replay"]
    accesses = [line.split("|")[5].strip() for line in text.splitlines() if line.startswith("| locft")]
    assert sorted(accesses) == sorted(ways)
    assert "a seed draws the edits, their order and the batches" in text
    assert "all edits" in blocks(runs)[0].title
    assert report(runs, "latex").count("cumulative from base") >= 1
    table = read(report(runs, "csv"))
    assert set(table["access"]) == set(ways)
    residue = table[table["metric"] == "probe.old_answer"]
    assert not residue["higher_is_better"].any()
    assert table[table["metric"] == "probe.generalisation"]["higher_is_better"].all()
    assert "access" not in read(report([texts(make_record)], "csv"))


def test_adapters_stand_in_one_table_with_whole_weights(make_record: Make) -> None:
    runs = [texts(make_record, 0, run="1"), texts(make_record, 8, run="2"), texts(make_record, 8, strategy="lora")]
    (block,) = blocks(runs)
    assert sorted(row.label for row in block.rows) == ["lora", "naive (adapter.rank=0)", "naive (adapter.rank=8)"]
    other = texts(make_record, 8, model_config={"name": "llama", "dtype": "bfloat16"})
    assert len(blocks([*runs, other])) == 2


def test_probes_are_in_the_csv_and_may_be_asked_for_as_columns(make_record: Make) -> None:
    table = read(report([texts(make_record)], "csv")).set_index("metric")
    assert table.loc["probe.facts", ["mean", "unit", "higher_is_better"]].tolist() == [30, "%", True]
    assert table.loc["probe.tales", "mean"] == pytest.approx(math.exp(0.3))
    assert not table.loc["probe.tales", "higher_is_better"]
    assert table.loc["perplexity_ratio", "mean"] == pytest.approx(math.exp(0.2))
    assert frame.runs([texts(make_record)])["probe.facts"].tolist() == [30]
    text = report([texts(make_record)], "markdown", View(columns=("probe.facts", "probe.tales")))
    assert "| Strategy | Facts ↑ | Tales ↓ |" in text
    assert markdown_row(text, "naive")[1:3] == ["30.0", "1.3"]
    with pytest.raises(ClbenchError, match=r"unknown column 'probe.facts'"):
        report([make_record()], "markdown", View(columns=("probe.facts",)))
    assert not any(name.startswith("probe.") for name in read(report([make_record()], "csv"))["metric"])


def test_a_diverged_run_on_texts_is_in_the_mean_with_nothing_left(make_record: Make) -> None:
    early = tuple(ProbeMeasurement(0, "facts", "accuracy", 8.0, 10) for _ in range(1))
    gone = texts(make_record, seed=1, probes=early, measurements=(), costs=(), status=Status.DIVERGED)
    row = markdown_row(report([texts(make_record), gone], "markdown"), "naive")
    assert row[1].startswith("35.0 ")
    assert row[4].startswith("-65.0 ")  # of -50 and -80


def test_title_says_what_a_block_has_in_common(make_record: Make) -> None:
    (block,) = blocks([make_record(part=Part.EVALUATION_HALF, protocol="two_phase")])
    assert block.title == "digits, class-incremental, evaluation half, 3 experiences, model small_cnn, two_phase"


@pytest.mark.parametrize("kind", FORMATS)
def test_nothing_to_report_is_one_clear_line(make_record: Make, kind: str) -> None:
    for records in ([], [make_record(status=Status.RUNNING)], [make_record(phase=Phase.TUNING)]):
        with pytest.raises(ClbenchError, match=r"^no finished evaluation runs in runs/; .*`clbench run`$"):
            report(records, kind, View(source="runs/"))


def test_unknown_formats_and_columns_are_refused(make_record: Make) -> None:
    with pytest.raises(ClbenchError, match="format must be one of csv, latex, markdown, got 'pdf'"):
        report([make_record()], "pdf")
    with pytest.raises(ClbenchError, match=r"unknown column 'last_acuracy'. Did you mean last_accuracy"):
        report([make_record()], "latex", View(columns=("last_acuracy",)))


def test_latex_escapes_what_tex_would_act_upon() -> None:
    assert escape(r"a_b 100% {x} \y $&#~^") == (
        r"a\_b 100\% \{x\} \textbackslash{}y \$\&\#\textasciitilde{}\textasciicircum{}"
    )


def test_latex_numbers_are_what_siunitx_aligns(records: list[Record], make_record: Make) -> None:
    text = report(
        [*records, make_record([[5], [3, 100]], strategy="poor")], "latex", View(columns=("last_accuracy", "bwt_gem"))
    )
    spec = next(line for line in text.splitlines() if line.startswith(r"\begin{tabular}"))
    assert re.findall(r"S\[table-format=([^\]]*)\]", spec) == ["2.1(2)", "-2.1(2)"]


def test_leaderboards_of_the_same_columns_are_one_latex_table(records: list[Record], make_record: Make) -> None:
    other = [make_record(scenario="cifar100", strategy=name) for name in ("a", "b")]
    text = report([*records, *other], "latex")
    assert text.count(r"\begin{tabular}") == 1
    assert text.count(r"\itshape") == 2
    assert text.index("cifar100") < text.index("Seeds 0 (n = 1)"), "what differs stands with its title"


def test_latex_says_where_it_comes_from_and_what_it_needs(make_record: Make) -> None:
    text = report([make_record()], "latex", View(command="clbench report runs\n--format latex"))
    comments = [line for line in text.splitlines() if line.startswith("%")]
    assert comments[:3] == [
        "% Made by: clbench report runs",
        "% --format latex",
        "% From 1 evaluation run, commit abc1234",
    ]
    assert r"\usepackage{booktabs}" in comments[-1]
    assert text.index(r"\caption") < text.index(r"\label{tab:") < text.index(r"\toprule")


def test_caption_says_what_the_interval_is_and_of_which_seeds(records: list[Record]) -> None:
    text = report(records, "latex")
    assert r"$\pm$ is the half-width of the 95 \% t-interval over seeds" in text
    assert "Seeds 0, 1 (n = 2)" in text
    assert "Protocol single, hyper-parameters given." in text


@pytest.mark.skipif(not ENGINES, reason="no LaTeX engine on PATH (pdflatex, lualatex or tectonic)")
def test_latex_compiles(records: list[Record], make_record: Make, tmp_path: Path) -> None:
    odd = [make_record(strategy="100%_~^\\&#{$}", strategy_config={"a<b|": c}, seed=0) for c in ("±", "x_y")]
    diverged = make_record([], classes=[2] * 3, strategy="worst", status=Status.DIVERGED, selection=TUNED)
    text = report([*records, *odd, diverged], "latex")
    preamble = r"\documentclass{article}\usepackage{booktabs,siunitx}\begin{document}"
    document = "\n".join([preamble, text, r"\end{document}"])
    (tmp_path / "tables.tex").write_text(document, encoding="utf-8")
    options = [] if ENGINES[0] == "tectonic" else ["-interaction=nonstopmode", "-halt-on-error"]
    done = subprocess.run(
        [ENGINES[0], *options, "tables.tex"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert (tmp_path / "tables.pdf").stat().st_size > 0


def test_seeds_are_shortened() -> None:
    assert wording.seeds([4, 0, 1, 2, 3, 7, 9, 10]) == "0-4, 7, 9, 10"
