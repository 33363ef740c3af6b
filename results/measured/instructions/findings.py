"""What the runs of `study.py` say: figures of each arm, and the findings that were expected of them.

    python results/measured/instructions/findings.py results/measured/instructions/runs

Differences are paired by seed; intervals are 95 % t-intervals over seeds. What is said to be larger is confirmed where
the interval of the difference lies above 0, refuted where it lies below, undecided where it holds 0. BWT is
`clbench.metrics.bwt_gem`, OP `last_accuracy_macro`, New `learning_accuracy`, MAA `mean_average_accuracy`; facts and
skills are probes that no experience trains.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from arms import ARMS, SHARED

from clbench import metrics, record
from clbench.arms import by_arm
from clbench.metrics import Interval, interval
from clbench.record import Record

Found = Mapping[str, Sequence[Record]]
FIGURES: dict[str, Callable[[Record], float]] = {
    "OP": metrics.last_accuracy_macro,
    "BWT": metrics.bwt_gem,
    "New": metrics.learning_accuracy,
    "MAA": metrics.mean_average_accuracy,
    "facts": lambda record: float(metrics.probe_scores(record, "facts")[-1]),
    "skills": lambda record: float(metrics.probe_scores(record, "skills")[-1]),
    "seconds": lambda record: sum(cost.learn_cpu_seconds for cost in record.costs),
}


def text(found: Found) -> str:
    """The table of arms, then the findings that the arms at hand can tell, as Markdown."""
    first = next(iter(found.values()))
    rows = "\n".join(_row(name, records) for name, records in found.items())
    start = f"{metrics.initial_accuracy_macro(first[0]):.1f} % of the stream's questions"
    probes = ", ".join(f"{name} {metrics.probe_scores(first[0], name)[0]:.1f} %" for name in ("facts", "skills"))
    heads = " | ".join(FIGURES)
    said = "\n".join(f"{number}. {_finding(check, found)}" for number, check in enumerate(FINDINGS, 1))
    return (
        f"# Findings\n\nMeans over {len(first)} seeds, +- half-width of the 95 % interval. Before the stream: {start}, "
        f"{probes}.\n\n| arm | {heads} |\n|---|{'---:|' * len(FIGURES)}\n{rows}\n\n{said}\n"
    )


def _row(name: str, records: Sequence[Record]) -> str:
    cells = (interval([function(record) for record in records]) for function in FIGURES.values())
    return f"| {name} | " + " | ".join(f"{c.mean:.1f} +- {c.high - c.mean:.1f}" for c in cells) + " |"


def difference(found: Found, one: str, other: str, figure: str) -> Interval:
    """One arm's figure minus another's, paired by seed."""
    function = FIGURES[figure]
    pairs = zip(found[one], found[other], strict=True)
    return interval([function(a) - function(b) for a, b in pairs])


def mean(found: Found, name: str, figure: str) -> float:
    """Of one arm."""
    return interval([FIGURES[figure](record) for record in found[name]]).mean


def told(value: Interval) -> str:
    """A difference for people."""
    return f"{value.mean:+.1f} [{value.low:+.1f}, {value.high:+.1f}]"


def _finding(check: Callable[[Found], str], found: Found) -> str:
    try:
        return check(found)
    except (KeyError, IndexError, ValueError):
        return "not asked: some of its arms have no runs."


def half_against_whole(found: Found) -> str:
    """1."""
    new, bwt, facts = (difference(found, "hft", "naive", figure) for figure in ("New", "BWT", "facts"))
    parts = {"New": abs(new.mean) <= 3, "BWT": bwt.mean >= 15, "facts": facts.mean >= 20}
    met = [name for name, held in parts.items() if held]
    verdict = {0: "refuted", len(parts): "confirmed"}.get(len(met), f"confirmed in {' and '.join(met)}")
    return (
        f"*hft against full fine-tuning: New within 3 points, BWT better by 15, facts by 20 (means)*: {verdict}. New "
        f"{told(new)}, BWT {told(bwt)}, facts {told(facts)}."
    )


def levels(found: Found) -> str:
    """2."""
    layer, model = (difference(found, "hft", f"hft, {level}", "OP") for level in ("layer", "model"))
    return (
        f"*category > layer > model in OP*: category minus layer {larger(layer)}, category minus model "
        f"{larger(model)}, layer minus model {larger(difference(found, 'hft, layer', 'hft, model', 'OP'))}."
    )


def redrawn(found: Found) -> str:
    """3."""
    op, facts = (difference(found, "hft", "hft, one mask", figure) for figure in ("OP", "facts"))
    above = {name: larger(difference(found, name, "naive", "OP")) for name in ("hft", "hft, one mask")}
    return (
        "*a mask redrawn for each task and one for the whole stream are both above naive in OP*: redrawn minus naive "
        f"{above['hft']}, one mask minus naive {above['hft, one mask']}. Redrawn minus one mask: OP {told(op)}, facts "
        f"{told(facts)}."
    )


def with_replay(found: Found) -> str:
    """4."""
    op = difference(found, "hft, replay", "replay", "OP")
    return f"*hft with replay > replay in OP*: {larger(op)}."


def half_reset(found: Found) -> str:
    """5."""
    above = difference(found, "half_reset", "naive", "facts")
    lost = interval(
        [-metrics.probe_scores(r, "facts")[-1] + metrics.probe_scores(r, "facts")[0] for r in found["half_reset"]]
    )
    return (
        f"*half_reset lies between naive and the start on facts*: half_reset minus naive {larger(above)}; start minus "
        f"half_reset {larger(lost)}."
    )


def averages(found: Found) -> str:
    """6."""
    ops = {name: mean(found, name, "OP") for name in found if name.startswith("fixed_ema")}
    best = max(ops, key=lambda name: ops[name])
    near, learns = difference(found, "fixed_ema 0.9", "naive", "OP"), mean(found, "fixed_ema 0.9999", "New")
    start = metrics.initial_accuracy_macro(found["naive"][0])
    ends = {decay: difference(found, best, f"fixed_ema {decay}", "OP") for decay in (0.9, 0.9999)}
    listed = ", ".join(f"{name.removeprefix('fixed_ema ')}: {op:.1f}" for name, op in ops.items())
    return (
        f"*an inverted U of OP against beta; 0.9 is near naive, 0.9999 learns nothing*: OP {listed}; the best minus "
        f"0.9 {larger(ends[0.9])}, minus 0.9999 {larger(ends[0.9999])}. 0.9 minus naive {told(near)}; New under "
        f"0.9999 is {learns:.1f}, {start:.1f} before any training."
    )


def dynamic(found: Found) -> str:
    """7."""
    released = [name for name in found if name.startswith("coin, code")] + ["coin, paper"]
    grids = {
        "dynamic": [name for name in found if name.startswith("coin, ")],
        "fixed": [name for name in found if name.startswith("fixed_ema")],
    }
    chosen = {kind: _chosen_elsewhere(found, names) for kind, names in grids.items()}
    gap = interval([a - b for a, b in zip(chosen["dynamic"], chosen["fixed"], strict=True)])
    against = "; ".join(f"{name} minus naive {told(difference(found, name, 'naive', 'OP'))}" for name in released)
    return (
        "*the dynamic average beats every fixed one in OP (the paper's claim)*: with the constant, or the decay, "
        f"chosen on the other seeds, dynamic minus fixed {larger(gap)}. As released: {against}."
    )


def _chosen_elsewhere(found: Found, names: Sequence[str]) -> list[float]:
    """OP of each seed under the arm that is best on the other seeds: nothing is chosen on what is reported."""
    ops = {name: [metrics.last_accuracy_macro(record) for record in found[name]] for name in names}
    reported = []
    for seed in range(len(found[names[0]])):
        others = {name: sum(values) - values[seed] for name, values in ops.items()}
        reported.append(ops[max(others, key=lambda name: others[name])][seed])
    return reported


def grouped(found: Found) -> str:
    """8."""
    routed, plain = found["families, naive routed"], found["families, naive"]
    gains = {
        kind: difference(found, f"families, {kind} routed", f"families, {kind}", "OP") for kind in ("naive", "coin")
    }
    alone = {name: _losses(routed, name) for name in ("count", "largest")}
    kept = all(loss == 0 for losses in alone.values() for loss in losses)
    without = {name: sum(_losses(plain, name)) / len(plain) for name in alone}
    lost = ", ".join(f"{name} {loss:.1f}" for name, loss in without.items())
    return (
        f"*tasks that are a group of their own forget nothing*: {'confirmed' if kept else 'refuted'}, in every run; "
        f"without routing they lose {lost} points. Routing adds to OP: naive {larger(gains['naive'])}, coin "
        f"{larger(gains['coin'])}."
    )


def _losses(records: Sequence[Record], task: str) -> list[float]:
    """Accuracy right after a task minus at the end, per run."""
    place = [experience.name for experience in records[0].experiences].index(task)
    matrices = [metrics.accuracy_matrix(record) for record in records]
    return [float(matrix[place, place] - matrix[-1, place]) for matrix in matrices]


def adapters(found: Found) -> str:
    """9."""
    gaps = {name: difference(found, name, "hft", "New") for name in found if name.startswith("lora ")}
    near = min(gaps, key=lambda name: abs(gaps[name].mean))
    bwt = difference(found, "hft", near, "BWT")
    return (
        f"*sequential LoRA forgets at least as much as hft where it learns as much*: {near} comes nearest to what hft "
        f"learns, New {told(gaps[near])}; hft's BWT minus its {larger(bwt)}."
    )


def strongest(found: Found) -> str:
    """10."""
    single = {name: mean(found, name, "OP") for name in found if name not in ("joint", "hft, replay")}
    ranked = sorted((name for name in single if "families" not in name), key=lambda name: -single[name])
    best, second = ranked[0], next(name for name in ranked if name != "replay")
    return (
        f"*replay is the strongest single method in OP*: {'yes' if best == 'replay' else f'no, {best} is'}. Replay "
        f"minus {second} {larger(difference(found, 'replay', second, 'OP'))}."
    )


def larger(value: Interval) -> str:
    """Whether a difference is above 0, and the difference."""
    verdict = "confirmed" if value.low > 0 else "refuted" if value.high < 0 else "undecided"
    return f"{told(value)} ({verdict})"


FINDINGS = (
    half_against_whole,
    levels,
    redrawn,
    with_replay,
    half_reset,
    averages,
    dynamic,
    grouped,
    adapters,
    strongest,
)

if __name__ == "__main__":
    print(text(by_arm(list(record.find([Path(sys.argv[1])])), ARMS, SHARED)), end="")
