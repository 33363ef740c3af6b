"""A card: all about one strategy, scenario, protocol, executor or tracker, for the terminal and for the web.

What it says is read from the file itself, from what its class declares, and from the results of a clone.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from clbench.cli.fields import Key, keys, typed
from clbench.config import DEFAULTS, registries
from clbench.edits.editor import Editor
from clbench.edits.located import Located
from clbench.parallel import Sharding
from clbench.record import Setting
from clbench.report import index
from clbench.report.board import Board, board
from clbench.report.grouping import Block, blocks
from clbench.report.wording import SETTINGS
from clbench.reported import Reported, conditions, read
from clbench.scenario import Modality, Scenario
from clbench.space import ranges, starts
from clbench.strategy import Strategy

RESULTS = Path(__file__).parents[2] / "results"
NO_RESULTS = "results/ comes with a clone of the repository; this installation has none"
CURVE = re.compile(r"_after_\d+$")
EXAMPLES = {Setting.INSTRUCTION: "instructions", Setting.EDITING: "edits"}
"""Scenarios that show a strategy for texts; images have the default one."""


class Measured(NamedTuple):
    """What a study in ``results/measured`` has of one plugin."""

    study: str  # its folder below results
    board: Board


class Published(NamedTuple):
    """Rows of ``results/reported``, as a table; points of curves are left out."""

    source: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Card:
    """All about one plugin.

    Attributes:
        kind: its group on the command line.
        name: its name there.
        certificate: the docstring of its file.
        facts: what its class declares, as (about what, in words).
        keys: what can be set.
        command: that runs it.
    """

    kind: str
    name: str
    certificate: str
    facts: tuple[tuple[str, str], ...]
    keys: tuple[Key, ...]
    command: str


def card(kind: str, name: str) -> Card:
    """The card of a plugin; imports its file.

    Raises:
        UnknownNameError: there is no such plugin.
        ClbenchError: it needs a package that is not installed.
    """
    registry = registries()[kind]
    cls, config = registry.load(name)
    facts = tuple(_FACTS[kind](cls, config)) if kind in _FACTS else ()
    shown = _shown_on(cls)
    training = registries()["scenario"].load(shown)[0].training if shown else {}
    words = [f"scenario={shown}"] * bool(shown) + [f"{kind}={name}"] + ["protocol=single"] * (kind != "protocol")
    command = " ".join(["clbench run", *words])
    return Card(kind, name, registry.certificate(name), facts, tuple(keys(config, kind, training)), command)


def settings(method: type[Strategy]) -> tuple[Setting, ...]:
    """The settings that a strategy is for."""
    if issubclass(method, Editor | Located):
        return (Setting.EDITING,)
    images = (Setting.CLASS_INCREMENTAL, Setting.TASK_INCREMENTAL) if Modality.IMAGES in method.learns else ()
    return (*images, *((Setting.INSTRUCTION, Setting.EDITING) if Modality.TEXTS in method.learns else ()))


def _of_strategy(cls: type[Strategy], config: type) -> Iterator[tuple[str, str]]:
    yield "learns", " and ".join(sorted(modality.value for modality in cls.learns))
    yield "settings", ", ".join(SETTINGS[setting] for setting in settings(cls))
    yield "starts from", _start(cls)
    if cls.skip.__func__ is not Strategy.skip.__func__:  # type: ignore[attr-defined]
        yield "condition", (cls.skip.__doc__ or "").partition("\n")[0].rstrip(".")
    if "feature" in cls.reads(config()):
        yield "reads", "features of the frozen backbone, computed once for all runs"
    yield "sees of the past", cls.access(config())
    yield "devices", _devices(cls.spreads)
    if _shown_on(cls):
        yield "defaults below", f"as learners begin in scenario={_shown_on(cls)}"
    yield "version", str(cls.version)


def _start(cls: type[Strategy]) -> str:
    if cls.low_rank:
        return "a language model, frozen, with low-rank adapters (model.adapter.rank)"
    if cls.pretrained:
        return "a pre-trained model: the scenario's, where none is named"
    if Modality.IMAGES not in cls.learns:
        return "a language model"
    return "any model; random weights of the scenario's where none is named"


def _devices(spreads: frozenset[Sharding]) -> str:
    if not spreads:
        return "one"
    sharded = ", or parts of it (executor.sharding=full)" if Sharding.FULL in spreads else ""
    return f"several can share a run (executor=accelerate), each with the whole model{sharded}"


def _of_scenario(cls: type[Scenario], config: type) -> Iterator[tuple[str, str]]:
    yield "shows", cls.modality.value
    able = f"; {cls.pretrained_model} for strategies that start from a pre-trained model"
    yield "model", cls.default_model + (able if cls.modality is Modality.IMAGES else "")
    naive = registries()["strategy"].load(DEFAULTS["strategy"])[1]
    begun = starts(naive, cls.training)
    if begun:
        yield "learners begin with", " ".join(f"{name}={typed(value)}" for name, value in begun.items())
    searched = {name: span for name, span in ranges(naive, cls.training).items() if name in cls.training}
    if searched:
        yield "searched here", "; ".join(f"{name} {span}" for name, span in searched.items())
    yield "data", f"`clbench data {cls.__module__.rpartition('.')[2]}` says whether they are there"
    yield "version", str(cls.version)


_FACTS: dict[str, Any] = {"strategy": _of_strategy, "scenario": _of_scenario}


def _shown_on(cls: type) -> str:
    """The scenario that shows a strategy, where it is not the default one; empty for it and for what is no strategy."""
    return EXAMPLES.get(settings(cls)[0], "") if issubclass(cls, Strategy) else ""


def measured(kind: str, name: str, results: Path = RESULTS) -> list[Measured]:
    """The boards of all studies that a strategy, scenario or protocol is in; of a strategy, its own lines."""
    pattern = {"strategy": f"*/{name}", "scenario": name}.get(kind, "*")
    found = []
    for runs in sorted((results / "measured").rglob("runs")):
        for block, whole in _boards(runs) if any(runs.glob(pattern)) else ():
            names = {row.label for row in block.rows if kind != "strategy" or row.strategy == name}
            if names and (kind == "strategy" or getattr(block.first, kind) == name):
                groups = (tuple(line for line in lines if line.label in names) for lines in whole.groups)
                shown = replace(whole, groups=tuple(filter(None, groups)))
                found.append(Measured(str(runs.parent.relative_to(results)), shown))
    return found


@functools.cache
def _boards(runs: Path) -> tuple[tuple[Block, Board], ...]:
    found = index.read([runs])
    return tuple((block, board(block)) for block in (blocks(found) if found.entries else ()))


def published(name: str, results: Path = RESULTS) -> Published | None:
    """Published numbers of a strategy; None where there are none."""
    rows = [row for row in _reported(results) if conditions(row.strategy).name == name]
    return _told(rows) if rows else None


def papers(results: Path = RESULTS) -> list[tuple[str, Published]]:
    """All published numbers, by the names of their files."""
    files = dict.fromkeys(row.path for row in _reported(results))
    return [(path.stem, _told([row for row in _reported(results) if row.path == path])) for path in files]


@functools.cache
def _reported(results: Path) -> tuple[Reported, ...]:
    folder = results / "reported"
    rows = read(folder) if any(folder.glob("*.csv")) else ()
    return tuple(row for row in rows if not CURVE.search(row.metric))


def _told(rows: Sequence[Reported]) -> Published:
    files = ", ".join(dict.fromkeys(f"results/reported/{row.path.name}" for row in rows))
    heads = ("strategy", "scenario", "model", "metric", "value", "n", "paper", "table")
    return Published(f"{files}: where each number stands, and how it was read", heads, tuple(map(_cells, rows)))


def _cells(row: Reported) -> tuple[str, ...]:
    value = f"{row.value:g}" + ("" if row.spread is None else f" ± {row.spread:g}")
    n = "" if row.n is None else str(row.n)
    return (row.strategy, row.scenario, row.model, row.metric, value, n, row.paper, row.table)
