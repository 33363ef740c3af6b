"""The one place where the command line's strings become our dataclasses, through Hydra.

Everything is checked before anything is computed: names first, without importing what is not named; then keys; then
types and ranges. Each mistake becomes one `ConfigError` or `UnknownNameError`.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from hydra import compose, initialize
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException, HydraException, OverrideParseException
from omegaconf import MISSING, DictConfig, EnumNode, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from clbench.errors import ClbenchError, ConfigError
from clbench.models.config import ModelConfig
from clbench.record import plain
from clbench.registry import Registry
from clbench.space import starts, with_values

GROUPS = ("scenario", "strategy", "protocol", "executor", "tracker")
DEFAULTS = {
    "scenario": "digits",
    "strategy": "naive",
    "protocol": "two_phase",
    "executor": "processes",
    "tracker": "none",
}


@dataclass
class DataConfig:
    """Where data are."""

    root: Path | None = None  # looked in first; then the folder that CLBENCH_DATA names


@dataclass
class RunConfig:
    """Everything that `clbench run` can be told."""

    scenario: Any = MISSING
    strategy: Any = MISSING
    protocol: Any = MISSING
    executor: Any = MISSING
    tracker: Any = MISSING
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    output: Path = Path("runs")  # where runs are kept; several commands may share it
    device: str = "auto"  # cpu, cuda, or auto: cuda where there is one


@dataclass(frozen=True)
class Job:
    """One combination of what was asked for.

    Attributes:
        config: with all defaults filled in.
        asked: what the user typed, key by key, but for the tracker: records must not tell whether a run was tracked.
        text: the whole config as YAML.
    """

    config: RunConfig
    asked: dict[str, str]
    text: str


def registries() -> dict[str, Registry[Any]]:
    """The registry of each group. Imports torch."""
    from clbench.executor import executors
    from clbench.protocol import protocols
    from clbench.scenario import scenarios
    from clbench.strategy import strategies
    from clbench.tracker import trackers

    return {
        "scenario": scenarios,
        "strategy": strategies,
        "protocol": protocols,
        "executor": executors,
        "tracker": trackers,
    }


def jobs(tokens: list[str]) -> list[Job]:
    """Every job that ``tokens`` (Hydra overrides such as ``strategy=naive,hft``) describe, all of them checked.

    Raises:
        ClbenchError: a name, key, type or value is wrong.
    """
    overrides = parse(tokens)
    register(overrides)
    split = BasicSweeper.split_arguments(overrides, max_batch_size=None)[0]
    try:
        GlobalHydra.instance().clear()
        with initialize(version_base="1.3", config_path=None):
            return [_job(list(words)) for words in split]
    finally:
        GlobalHydra.instance().clear()


def parse(tokens: list[str]) -> list[Override]:
    """The overrides, or what is wrong with one of them.

    Raises:
        ConfigError: it cannot be read, or adds (``+``), removes (``~``) or reconfigures Hydra.
    """
    for token in tokens:
        if token[:1] not in "+~" and "=" not in token:
            raise ConfigError(f"cannot read {token!r}: expected key=value, e.g. strategy=hft strategy.lr=0.1")
    try:
        overrides = OverridesParser.create().parse_overrides(tokens)
    except OverrideParseException as error:
        raise ConfigError(f"cannot read {error.override!r}: {str(error).splitlines()[0]}") from error
    for override in overrides:
        if override.is_add() or override.is_delete():
            raise ConfigError(
                f"{override.input_line!r}: keys cannot be added or removed; `clbench run --help` lists those there are"
            )
        if override.key_or_group.split(".")[0].split("/")[0] == "hydra":
            raise ConfigError(f"{override.input_line!r}: Hydra itself is not configured here; use executor=... instead")
    return overrides


def register(overrides: list[Override]) -> None:
    """Put into Hydra's store what these overrides name, and the defaults where they name none.

    Raises:
        UnknownNameError: a group's choice is no file of that group.
    """
    chosen = {group: [name] for group, name in DEFAULTS.items()}
    for override in overrides:
        if override.key_or_group in chosen:
            chosen[override.key_or_group] = _values(override)
    store = ConfigStore.instance()
    found = registries()
    for group, names in chosen.items():
        for name in names:
            found[group].checked(name)
        for name in names:
            store.store(group=group, name=name, node=found[group].load(name)[1])
    store.store(name="run_schema", node=RunConfig)
    defaults = ["run_schema", *({group: names[0]} for group, names in chosen.items()), "_self_"]
    store.store(name="run", node={"defaults": defaults})


def _values(override: Override) -> list[str]:
    if override.is_sweep_override():
        return [str(value) for value in cast(Iterator[Any], override.sweep_string_iterator())]
    return [str(override.value())]


def _job(words: list[str]) -> Job:
    try:
        composed = compose("run", overrides=_for_hydra(words))
    except ConfigCompositionException as error:
        raise _composition_error(words, error) from error
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_one_line(error)) from error
    try:
        config = cast(RunConfig, OmegaConf.to_object(composed))
    except OmegaConfBaseException as error:
        raise ConfigError(_one_line(error)) from error
    overrides = OverridesParser.create().parse_overrides(words)
    named = {o.key_or_group.removeprefix("strategy.") for o in overrides if o.key_or_group.startswith("strategy.")}
    config.strategy = started(config.strategy, config.scenario, named)
    typed = {o.key_or_group: str(o.get_value_element_as_str()) for o in overrides}
    asked = {key: value for key, value in typed.items() if key.partition(".")[0] != "tracker"}
    return Job(config, asked, OmegaConf.to_yaml(OmegaConf.create(plain(config))))


def started(strategy: Any, scenario: Any, named: Collection[str]) -> Any:
    """A strategy's config as the scenario has it begin, but for the fields that the user ``named``."""
    source, _ = registries()["scenario"].load(registries()["scenario"].name_of(scenario))
    values = {name: v for name, v in starts(strategy, source.training).items() if name not in named}
    return with_values(strategy, values) if values else strategy


def restored(kind: type[Any], plain: Mapping[str, Any]) -> Any:
    """A config from the plain values that a record keeps of it.

    Raises:
        ConfigError: the config takes no such key or value.
    """
    empty = OmegaConf.structured(kind)
    try:
        return OmegaConf.to_object(OmegaConf.merge(empty, _with_names(empty, plain)))
    except (OmegaConfBaseException, KeyError) as error:
        raise ConfigError(f"{kind.__name__} cannot be what the record says: {_one_line(error)}") from error


def _with_names(config: DictConfig, plain: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values with those of enums exchanged for the names that Hydra knows."""
    found = {}
    for key, value in plain.items():
        node = _node(config, key)
        if isinstance(node, EnumNode):
            value = next((member.name for member in node.enum_type if member.value == value), value)
        elif isinstance(value, dict) and OmegaConf.is_dict(node):
            value = _with_names(node, value)
        found[key] = value
    return found


def _for_hydra(words: list[str]) -> list[str]:
    """The same overrides as Hydra wants them.

    Enum values are exchanged for member names: Hydra knows the names only, users the values. New keys of a field that
    is a dict are marked as such; its owner says which keys it knows.
    """
    chosen = compose("run", overrides=[word for word in words if word.partition("=")[0] in GROUPS])
    named = [_enum_name(word, _node(chosen, word.partition("=")[0])) for word in words]
    return [f"++{word}" if _in_dict(chosen, word.partition("=")[0]) else word for word in named]


def _in_dict(config: DictConfig, key: str) -> bool:
    """Whether ``key`` is, or lies in, a field that is a dict and no dataclass."""
    parts = key.split(".")
    nodes = (_node(config, ".".join(parts[:length])) for length in range(1, len(parts) + 1))
    return any(OmegaConf.is_dict(node) and OmegaConf.get_type(node) is dict for node in nodes)


def _node(config: DictConfig, key: str) -> Any:
    node: Any = config
    for part in key.split("."):
        node = node._get_node(part, validate_access=False) if OmegaConf.is_dict(node) else None
    return node


def _enum_name(word: str, node: Any) -> str:
    key, _, value = word.partition("=")
    if not isinstance(node, EnumNode):
        return word
    names = {str(member.value): member.name for member in node.enum_type}
    if value not in names:
        raise ConfigError(f"{key} must be one of {', '.join(names)}, got {value!r}")
    return f"{key}={names[value]}"


def _composition_error(words: list[str], error: Exception) -> ClbenchError:
    cause = error.__cause__ or error
    key = str(getattr(cause, "full_key", "") or "")
    if "not in" in str(cause) or "not found" in str(cause).lower():
        known = _keys(compose("run", overrides=[w for w in words if w.split("=")[0] in GROUPS]))
        near = difflib.get_close_matches(key, known, n=2, cutoff=0.6)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        command = " ".join(["clbench run --help", *(w for w in words if w.split("=")[0] in GROUPS)])
        return ConfigError(f"unknown key {key!r}.{hint} `{command}` lists the keys")
    return ConfigError(_one_line(cause))


def _keys(node: DictConfig, prefix: str = "") -> list[str]:
    keys = []
    for name in node:
        full = f"{prefix}{name!s}"
        keys.append(full)
        if OmegaConf.is_dict(node._get_node(name)) and node._get_node(name) is not None and node[name] is not None:
            keys += _keys(node[name], f"{full}.")
    return keys


def _one_line(error: BaseException) -> str:
    key = getattr(error, "full_key", None)
    first = str(error).splitlines()[0]
    return f"{key}: {first}" if key and str(key) not in first else first
