"""`clbench run --help`: every key with its default, what it means, and the range it is searched in."""

from __future__ import annotations

import textwrap

from clbench.cli.fields import Key, keys
from clbench.config import DEFAULTS, GROUPS, RunConfig, parse, registries
from clbench.errors import ConfigError

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
        rows = map(_row, keys(config, group, training if group == "strategy" else {}))
        parts.append(f"{group}={chosen[group]}   (there are: {names})\n" + ("\n".join(rows) or "  nothing to choose"))
    rest = [key for key in keys(RunConfig, "") if key.name not in GROUPS]
    parts.append("everything else\n" + "\n".join(map(_row, rest)))
    return "\n\n".join(parts)


def _row(key: Key) -> str:
    choices = f" [{', '.join(key.choices)}]" if key.choices else ""
    searched = f" [searched: {key.range}]" if key.range else ""
    text = f"{key.text}{choices}{searched}".strip()
    return textwrap.fill(f"{f'  {key.name}={key.default}':44} {text}", 118, subsequent_indent=" " * 45)
