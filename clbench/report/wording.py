"""How runs, seeds and budgets are called in every kind of table."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from clbench.record import Part, Record, Setting

SETTINGS = {
    Setting.CLASS_INCREMENTAL: "class-incremental",
    Setting.TASK_INCREMENTAL: "task-incremental",
    Setting.INSTRUCTION: "instruction tuning",
    Setting.EDITING: "editing",
}
PARTS = {Part.WHOLE: "all classes", Part.TUNING_HALF: "tuning half", Part.EVALUATION_HALF: "evaluation half"}


def title(record: Record) -> str:
    """What all runs of a record's block have in common, in one line."""
    parts = [
        record.scenario,
        SETTINGS[record.setting],
        part_of(record),
        *([] if record.split_seed is None else [f"split seed {record.split_seed}"]),
        *(["halves swapped"] if record.swapped else []),
        count(len(record.experiences), "experience"),
        f"model {record.model_config.get('name') or 'by default'}",
        record.protocol,
    ]
    return ", ".join(parts)


def part_of(record: Record) -> str:
    """Which classes, or tasks, took part."""
    whole = {Setting.INSTRUCTION: "all tasks", Setting.EDITING: "all edits"}
    return whole.get(record.setting, PARTS[Part.WHOLE]) if record.part is Part.WHOLE else PARTS[record.part]


def distinct(names: Sequence[str], *levels: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names told apart, where several are equal, by the fields in which their bearers differ.

    Args:
        names: N of them.
        levels: sequences of N mappings, the more telling first; a later one is drawn upon only for names that the
            earlier ones leave equal.
    """
    labels = list(names)
    for name, bearers in Counter(names).items():
        if bearers > 1:
            places = [i for i, other in enumerate(names) if other == name]
            details = _details([[level[i] for i in places] for level in levels])
            for i, detail in zip(places, details, strict=True):
                labels[i] = f"{name} ({detail})"
    return labels


def _details(levels: Sequence[Sequence[Mapping[str, Any]]]) -> list[str]:
    details: list[list[str]] = [[] for _ in levels[0]]
    for level in ([flat(fields) for fields in level] for level in levels):
        if len({tuple(detail) for detail in details}) == len(details):
            break
        keys = dict.fromkeys(key for fields in level for key in fields)
        for key in keys:
            values = [str(fields.get(key)) for fields in level]
            if len(set(values)) > 1:
                for detail, value in zip(details, values, strict=True):
                    detail.append(f"{key}={value}")
    return [", ".join(detail) for detail in details]


def flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config's values by their keys on the command line, those of nested configs too."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        inner = flat(value) if isinstance(value, dict) else None
        found |= {name: value} if inner is None else {f"{name}.{key}": v for key, v in inner.items()}
    return found


def count(n: int, thing: str) -> str:
    """``3 runs``, ``1 run``."""
    return f"{n} {thing}" if n == 1 else f"{n} {thing}s"


def slug(text: str) -> str:
    """Text for names of files and for labels: lower-case letters, digits and single dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def seeds(values: Iterable[int]) -> str:
    """Seeds with runs of at least three successive ones shortened: ``0-4, 7``."""
    chunks: list[list[int]] = []
    for value in sorted(set(values)):
        if chunks and value == chunks[-1][-1] + 1:
            chunks[-1].append(value)
        else:
            chunks.append([value])
    texts = [f"{c[0]}-{c[-1]}" if len(c) > 2 else ", ".join(map(str, c)) for c in chunks]
    return ", ".join(texts)


def budget(record: Record) -> str:
    """How a run's hyper-parameters were chosen, and at what expense."""
    selection = record.selection
    runs = len(set(selection.tuning_runs))
    if not runs:
        return "hyper-parameters given"
    tried = f"{count(selection.trials, 'trial')} x {count(len(selection.tuning_seeds), 'seed')}"
    return f"{count(runs, 'tuning run')} ({tried})"


def commits(records: Iterable[Record]) -> list[str]:
    """Commits of the code that made the records; runs from outside a checkout count as ``unknown``."""
    return sorted({record.environment.commit or "unknown" for record in records})


def shared(texts: Mapping[str, str]) -> str:
    """Texts of several labels in one line: the text alone where all have the same, else with its labels."""
    together: dict[str, list[str]] = {}
    for label, text in texts.items():
        together.setdefault(text, []).append(label)
    if len(together) == 1:
        return next(iter(together))
    return "; ".join(f"{text} for {', '.join(labels)}" for text, labels in together.items())
