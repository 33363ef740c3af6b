"""What the runs of `study.py` say: figures of each arm, and the acceptance tests of the study's design.

    python results/measured/edits/findings.py results/measured/edits/runs

All figures are means over seeds, in percent: Rel = `clbench.metrics.reliability`, the others are probes after the last
edit. The thresholds were set from another model of the same size on a world of other words, before this model was
trained; none was changed afterwards.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from arms import ARMS, SHARED, SPOTS

from clbench import metrics, record
from clbench.arms import by_arm
from clbench.record import Record

Found = Mapping[str, Sequence[Record]]
PROBES = {
    "Gen": "generalisation",
    "Prefix": "generalisation_prefix",
    "Near": "locality_near",
    "Far": "locality_far",
    "Cap": "capability",
    "TF": "teacher_forced",
    "Old": "old_answer",
}


def figure(runs: Sequence[Record], name: str) -> float:
    """Mean over seeds."""
    return float(np.mean(each(runs, name)))


def each(runs: Sequence[Record], name: str) -> list[float]:
    """Of every seed."""
    if name == "Rel":
        return [metrics.reliability(run) for run in runs]
    if name == "steps":
        return [float(sum(n.get("steps", 0) for key, n in run.notes.items() if key != "stream")) for run in runs]
    if name == "seconds":
        return [sum(cost.learn_cpu_seconds for cost in run.costs) for run in runs]
    return [float(metrics.probe_scores(run, PROBES[name])[-1]) for run in runs]


def text(found: Found) -> str:
    """The table of arms, then the acceptance tests that the arms at hand can tell, as Markdown."""
    names = ("Rel", *PROBES, "steps", "seconds")
    rows = [
        f"| {arm} | {runs[0].access} | " + " | ".join(f"{figure(runs, name):.1f}" for name in names) + " |"
        for arm, runs in found.items()
    ]
    seeds = len(next(iter(found.values())))
    heads = f"| arm | access | {' | '.join(names)} |\n|---|---|{'---:|' * len(names)}"
    said = "\n".join(f"{number}. {_told(check, found)}" for number, check in enumerate(TESTS, 1))
    return f"# Findings\n\nMeans over {seeds} seed(s).\n\n{heads}\n" + "\n".join(rows) + f"\n\n{said}\n"


def _told(check: Callable[[Found], str], found: Found) -> str:
    try:
        return check(found)
    except (KeyError, ValueError):
        return "not asked: some of its arms have no runs."


def verdict(holds: bool) -> str:
    """In a word."""
    return "holds" if holds else "does not hold"


def spots(found: Found, *names: str) -> list[str]:
    """The places at which all of these arms have runs.

    Raises:
        KeyError: there is none.
    """
    there = [spot for spot in SPOTS if all(f"{name}, {spot}" in found for name in names)]
    if not there:
        raise KeyError(*names)
    return there


def breadth(found: Found) -> str:
    """1."""
    parts = []
    for spot in spots(found, "bf 1", "df"):
        wide, deep = (figure(found[f"{name}, {spot}"], "Rel") for name in ("bf 1", "df"))
        holds = wide >= 97 and deep <= 70 and wide - deep >= 30
        parts.append(f"{spot}: {wide:.1f} against {deep:.1f}, {verdict(holds)}")
    return f"*breadth first Rel >= 97, depth first <= 70, gap >= 30, at the same rate*: {'; '.join(parts)}."


def shards(found: Found) -> str:
    """2."""
    deep, wide = (np.mean([metrics.accuracy_matrix(r)[-1] for r in found[f"shards, {n}"]], 0) for n in ("df", "bf"))
    holds = deep[0] <= deep[-1] / 2 and wide.max() - wide.min() <= 5
    listed = ", ".join(f"{value:.0f}" for value in deep)
    return (
        "*depth first, the oldest shard is at most half of the newest; breadth first within 5 points*: "
        f"{verdict(holds)} ({listed}; breadth first {wide.min():.0f} to {wide.max():.0f})."
    )


def batches(found: Found) -> str:
    """3."""
    parts = []
    for spot in spots(found, "bf 10", "bf 1"):
        ten, one = found[f"bf 10, {spot}"], found[f"bf 1, {spot}"]
        gains = {n: figure(ten, n) - figure(one, n) for n in ("Rel", "Cap", "Near", "Far")}
        holds = abs(gains["Rel"]) <= 1 and min(gains[n] for n in ("Cap", "Near", "Far")) > 0
        listed = ", ".join(f"{name} {gain:+.1f}" for name, gain in gains.items())
        fewer = figure(one, "steps") / figure(ten, "steps")
        parts.append(f"{spot}: {listed}, {fewer:.1f} times fewer steps, {verdict(holds)}")
    return f"*batches of 10 against 1: Rel within 1, Cap and locality higher*: {'; '.join(parts)}."


def kept(found: Found) -> str:
    """4."""
    parts = []
    for spot in spots(found, "bf 10", "df"):
        wide, deep = found[f"bf 10, {spot}"], found[f"df, {spot}"]
        cap, gen = ([figure(runs, name) for runs in (wide, deep)] for name in ("Cap", "Gen"))
        gap = [figure(wide, name) - figure(deep, name) for name in ("Near", "Far")]
        held = {
            "Cap": cap[0] >= 90 and cap[1] <= 70 and cap[0] - cap[1] >= 25,
            "locality": min(gap) >= 30,
            "Gen": 88 <= gen[0] <= 100 and gen[1] <= 60,
        }
        met = ", ".join(f"{name} {verdict(holds)}" for name, holds in held.items())
        pairs = ", ".join(f"{name} {a:.1f} / {b:.1f}" for name, (a, b) in (("Cap", cap), ("Gen", gen)))
        listed = f"{pairs}, locality +{gap[0]:.1f} and +{gap[1]:.1f}"
        parts.append(f"{spot}: {listed}; {met}")
    return (
        "*Cap: breadth first >= 90, depth first <= 70, gap >= 25; locality gap >= 30; Gen: breadth first 88 to 100, "
        f"depth first <= 60*: {'. '.join(parts)}."
    )


def control(found: Found) -> str:
    """5."""
    rel = {name: figure(found[name], "Rel") for name in ("ft_l, df", "ft_l, bf")}
    listed = ", ".join(f"{name} {value:.1f}" for name, value in rel.items())
    return f"*ft_l learns nothing in either pipeline, Rel <= 15*: {verdict(max(rel.values()) <= 15)} ({listed})."


def overstated(found: Found) -> str:
    """6."""
    place = spots(found, "df", "bf 10")[0]
    gaps = {n: figure(found[n], "TF") - figure(found[n], "Rel") for n in (f"df, {place}", f"bf 10, {place}")}
    deep, wide = gaps.values()
    return (
        f"*teacher-forced minus free: >= 15 depth first, 0 breadth first*: {verdict(deep >= 15 and abs(wide) < 0.5)} "
        f"({deep:.1f}, {wide:.1f})."
    )


def streams(found: Found) -> str:
    """7."""
    parts = []
    for spot in ("L0.down", "L3.mlp"):
        arms = [found[f"stream {spot}, {name}"] for name in ("no_replay", "replay 20")]
        none, some = (figure(runs, "Rel") for runs in arms)
        on, base = (found[f"stream {spot}, cumulative_{name}"] for name in ("continue", "from_base"))
        all_of_it = min(figure(runs, "Rel") for runs in (on, base))
        near = min(b - a for a, b in zip(each(on, "Near"), each(base, "Near"), strict=True))
        cap = figure(base, "Cap") - figure(on, "Cap")
        order = none <= 50 < some <= 75 < 99 <= all_of_it
        parts.append(
            f"{spot}: {none:.1f}, {some:.1f}, {all_of_it:.1f}, {verdict(order)}; from the base, Near at least "
            f"{near:+.1f} in every sample, Cap {cap:+.1f}, {verdict(near >= 10 and cap >= 10)}"
        )
    return (
        "*Rel: no replay <= 50 < replay of 20 <= 75 < cumulative >= 99; starting from the base beats going on by 10 in "
        f"Near (each sample) and Cap (mean)*: {'. '.join(parts)}."
    )


TESTS = (breadth, shards, batches, kept, control, overstated, streams)


if __name__ == "__main__":
    print(text(by_arm(list(record.find([Path(sys.argv[1])])), ARMS, SHARED)), end="")
