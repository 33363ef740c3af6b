"""What the runs of `study.py` say: figures of each arm, and the findings that were expected of them.

    python results/measured/instructions/findings.py results/measured/instructions/runs

Differences are paired by seed; intervals are 95 % t-intervals over seeds. BWT is `clbench.metrics.bwt_gem`, OP
`last_accuracy_macro`, New `learning_accuracy`; facts and skills are probes that no experience trains.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from arms import by_arm

from clbench import metrics, record
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
    held = abs(new.mean) <= 3 and bwt.mean >= 15 and facts.mean >= 20
    return (
        f"*hft against full fine-tuning: New within 3 points, BWT better by 15, facts by 20*: {_verdict(held)}. New "
        f"{told(new)}, BWT {told(bwt)}, facts {told(facts)}."
    )


def levels(found: Found) -> str:
    """2."""
    layer, model = (difference(found, "hft", f"hft, {level}", "OP") for level in ("layer", "model"))
    held = layer.mean >= 0 and difference(found, "hft, layer", "hft, model", "OP").mean >= 0
    return (
        f"*category >= layer >= model in OP*: {_verdict(held)}. Category minus layer {told(layer)}, category minus "
        f"model {told(model)}."
    )


def redrawn(found: Found) -> str:
    """3."""
    op, facts = (difference(found, "hft", "hft, one mask", figure) for figure in ("OP", "facts"))
    above = min(difference(found, name, "naive", "OP").low for name in ("hft", "hft, one mask")) > 0
    return (
        f"*a mask redrawn for each task and one for the whole stream are both well above naive*: {_verdict(above)}. "
        f"Redrawn minus one mask: OP {told(op)}, facts {told(facts)}."
    )


def with_replay(found: Found) -> str:
    """4."""
    op = difference(found, "hft, replay", "replay", "OP")
    return f"*hft with replay >= replay in OP*: {_verdict(op.mean >= 0)}. {told(op)}."


def half_reset(found: Found) -> str:
    """5."""
    reset, naive = mean(found, "half_reset", "facts"), mean(found, "naive", "facts")
    start = float(metrics.probe_scores(found["naive"][0], "facts")[0])
    return (
        f"*half_reset lies between naive and the start on facts*: {_verdict(naive < reset < start)}. {naive:.1f}, "
        f"{reset:.1f}, {start:.1f}."
    )


def averages(found: Found) -> str:
    """6."""
    ops = {name: mean(found, name, "OP") for name in found if name.startswith("fixed_ema")}
    best = max(ops, key=lambda name: ops[name])
    near, learns = difference(found, "fixed_ema 0.9", "naive", "OP"), mean(found, "fixed_ema 0.9999", "New")
    start = metrics.initial_accuracy_macro(found["naive"][0])
    ends = [mean(found, f"fixed_ema {decay}", "OP") for decay in (0.9, 0.9999)]
    held = ops[best] > max(ends)
    listed = ", ".join(f"{name.removeprefix('fixed_ema ')}: {op:.1f}" for name, op in ops.items())
    return (
        f"*an inverted U of OP against beta; 0.9 is near naive, 0.9999 learns nothing*: {_verdict(held)}. OP {listed}. "
        f"0.9 minus naive {told(near)}; New under 0.9999 is {learns:.1f}, {start:.1f} before any training."
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
        f"*the dynamic average beats every fixed one (the paper's claim)*: {_verdict(gap.low > 0)}. With the constant, "
        f"or the decay, chosen on the other seeds, dynamic minus fixed {told(gap)} in OP. As released: {against}."
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
        f"*tasks that are a group of their own forget nothing*: {_verdict(kept)}; without routing they lose {lost} "
        f"points. Routing adds to OP: naive {told(gains['naive'])}, coin {told(gains['coin'])}."
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
    bwt = difference(found, near, "hft", "BWT")
    return (
        f"*sequential LoRA forgets at least as much as hft where it learns as much*: {_verdict(bwt.mean <= 0)}. {near} "
        f"comes nearest to what hft learns, New {told(gaps[near])}; its BWT is {told(bwt)} from hft's."
    )


def strongest(found: Found) -> str:
    """10."""
    single = {name: mean(found, name, "OP") for name in found if name not in ("joint", "hft, replay")}
    best = max((name for name in single if "families" not in name), key=lambda name: single[name])
    return (
        f"*replay is the strongest single method*: {_verdict(best == 'replay')}. Best is {best}, {single[best]:.1f}; "
        f"replay {single['replay']:.1f}."
    )


def _verdict(held: bool) -> str:
    return "confirmed" if held else "refuted"


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
    print(text(by_arm(list(record.find([Path(sys.argv[1])])))), end="")
