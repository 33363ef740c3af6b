"""`clbench run --help`: every key with its default, what it means, and the range it is searched in."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from typing import Any

from clbench.config import DEFAULTS, GROUPS, RunConfig, parse, registries
from clbench.errors import ConfigError
from clbench.space import Range, ranges, starts

TEXT = """usage: clbench run [KEY=VALUE ...] [--plan | --config | --help]

Runs a strategy on a scenario under a protocol. By default (protocol=two_phase) hyper-parameters are tuned on one half
of the classes or tasks and the result is reported on the other half, over several seeds. A key that you set is never
tuned.
A list (strategy=naive,hft) runs every combination and compares them. A command that was interrupted goes on where
it stopped when it is given again; what is finished is not run again.

  --plan     print what would be run and about how long it takes, and stop
  --config   print every key with its value, as YAML, and stop
  --help     this text, for the chosen plugins: clbench run strategy=ewc --help

examples:
  clbench run strategy=naive,hft
  clbench run scenario=cifar100 scenario.increment=5 strategy=replay strategy.memory.capacity=2000
  clbench run protocol=single protocol.seeds=[1993] strategy=ewc strategy.lr=0.05
"""


def manual(tokens: list[str]) -> str:
    """The help text for the plugins that ``tokens`` choose.

    Raises:
        UnknownNameError: a plugin that is not there.
        ConfigError: a group is given several names.
    """
    chosen = dict(DEFAULTS)
    for override in parse(tokens):
        if override.key_or_group in chosen:
            if override.is_sweep_override():
                raise ConfigError(f"--help shows one {override.key_or_group} at a time")
            chosen[override.key_or_group] = str(override.value())
    parts = [TEXT]
    training = registries()["scenario"].load(chosen["scenario"])[0].training
    for group, registry in registries().items():
        names = ", ".join(registry.names())
        _, config = registry.load(chosen[group])
        parts.append(
            f"{group}={chosen[group]}   (there are: {names})\n"
            + _rows(config, group, training if group == "strategy" else {})
        )
    rest = [f for f in fields(RunConfig) if f.name not in GROUPS]
    parts.append("everything else\n" + "\n".join(_row(f, "", _comments(RunConfig)) for f in rest))
    return "\n\n".join(parts)


def _rows(config: type, prefix: str, training: Mapping[str, Any] | None = None, given: object = None) -> str:
    comments, training = _comments(config), training or {}
    begun, spans = starts(config, training), ranges(config, training)
    begun |= {f.name: getattr(given, f.name) for f in fields(config) if given is not None}
    rows = [_row(f, f"{prefix}.", comments, begun, spans) for f in fields(config)]
    return "\n".join(rows) or "  nothing to choose"


def _row(
    field: Field[Any],
    prefix: str,
    comments: dict[str, str],
    begun: Mapping[str, Any] | None = None,
    spans: Mapping[str, Range] | None = None,
) -> str:
    default = field.default if field.default_factory is MISSING else field.default_factory()
    default = (begun or {}).get(field.name, default)
    if is_dataclass(default):
        return _rows(type(default), f"{prefix}{field.name}", given=default)
    key = f"  {prefix}{field.name}={_shown(default)}"
    searched = f" [searched: {spans[field.name]}]" if spans and field.name in spans else ""
    choices = f" [{', '.join(c.value for c in type(default))}]" if isinstance(default, Enum) else ""
    text = f"{comments.get(field.name, '')}{choices}{searched}".strip()
    return textwrap.fill(f"{key:44} {text}", 118, subsequent_indent=" " * 45)


def _shown(value: object) -> str:
    if isinstance(value, Enum):
        return str(value.value)
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value).replace(" ", "")


def _comments(config: type) -> dict[str, str]:
    """The comment or docstring line beside each field, from the class's source and its parents'."""
    found: dict[str, str] = {}
    for cls in reversed(config.__mro__):
        if is_dataclass(cls):
            found |= _own_comments(cls)
    return found


def _own_comments(cls: type) -> dict[str, str]:
    lines = textwrap.dedent(inspect.getsource(cls)).splitlines()
    body = ast.parse("\n".join(lines)).body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for node in body.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.end_lineno:
            comment = lines[node.end_lineno - 1][node.end_col_offset :]
            found[node.target.id] = comment.partition("#")[2].strip()
    return found
