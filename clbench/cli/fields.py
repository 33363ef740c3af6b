"""What can be set: the fields of a config with their defaults, meanings and ranges, as the command line names them."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from typing import Any, NamedTuple

from clbench.space import ranges, starts


class Key(NamedTuple):
    """One key of the command line."""

    name: str
    type: str  # as it is annotated
    default: str  # as it is typed
    text: str  # what it means
    choices: tuple[str, ...]  # of an enumeration
    range: str  # that a protocol searches; empty where it is not searched


def keys(config: type, prefix: str, training: Mapping[str, Any] | None = None, given: object = None) -> Iterator[Key]:
    """The keys of a config, those of nested configs too, in the order of their declaration.

    Args:
        config: a dataclass.
        prefix: of the keys: a group's name, or nothing.
        training: of the scenario, see `clbench.scenario.Scenario.training`.
        given: an instance whose values are the defaults.
    """
    meanings, training = comments(config), training or {}
    begun, spans = starts(config, training), ranges(config, training)
    begun |= {f.name: getattr(given, f.name) for f in fields(config) if given is not None}
    for field in fields(config):
        name = f"{prefix}.{field.name}" if prefix else field.name
        default = begun.get(field.name, _default(field))
        if is_dataclass(default):
            yield from keys(type(default), name, given=default)
        else:
            choices = tuple(str(c.value) for c in type(default)) if isinstance(default, Enum) else ()
            span = str(spans.get(field.name, ""))
            type_ = field.type if isinstance(field.type, str) else field.type.__name__
            yield Key(name, type_, typed(default), meanings.get(field.name, ""), choices, span)


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def typed(value: object) -> str:
    """A value as it is typed on the command line, in one line."""
    if isinstance(value, Enum):
        return str(value.value)
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return str(value).replace(" ", "").replace("\n", r"\n")


def comments(config: type) -> dict[str, str]:
    """The comment beside each field, from the class's source and its parents'."""
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
