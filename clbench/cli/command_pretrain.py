"""Train a backbone on one half of a scenario's classes, to start from on the other half."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from clbench.errors import ConfigError

EXAMPLES = """KEY=VALUE are those of `clbench run`; the strategy's shared fields are the recipe.

example:
  clbench pretrain cifar.safetensors scenario=cifar100 model.name=small_vit model.width=128 strategy.epochs=20
  clbench run scenario=cifar100 strategy=mos model.name=small_vit model.width=128 model.checkpoint=cifar.safetensors \\
      protocol=single protocol.part=evaluation_half
"""
DEFAULTS = [
    "strategy=naive",
    "strategy.optimizer=adamw",
    "strategy.lr=0.001",
    "strategy.weight_decay=0.05",
    "strategy.batch_size=128",
    "strategy.clip=1.0",
    "strategy.epochs=20",
]


def run(words: list[str]) -> int:
    """Train, write the weights and say how well the classes were learnt.

    Raises:
        ClbenchError: something was asked for that cannot be had; nothing has been computed then.
    """
    parser = argparse.ArgumentParser(
        prog="clbench pretrain",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "output",
        type=Path,
        help="where weights are written: a .safetensors file; for a language model a folder",
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="scenario, model and recipe")
    parser.add_argument("--part", choices=("tuning_half", "evaluation_half", "whole"), default="tuning_half")
    parser.add_argument("--seed", type=int, default=0, help="of initialisation, batches and augmentation")
    asked = parser.parse_intermixed_args(words)
    given = {word.partition("=")[0] for word in asked.overrides}
    tokens = [*(d for d in DEFAULTS if d.partition("=")[0] not in given), *asked.overrides]
    from clbench.cli.study import device_of
    from clbench.config import jobs

    found = jobs(tokens)
    if len(found) != 1:
        raise ConfigError("one model is trained at a time; give each key one value")
    from clbench.pretrain import pretrain
    from clbench.record import Part, Phase, Selection
    from clbench.run import Run, resolved_model

    config = found[0].config
    part = Part[asked.part.upper()]
    training = Run(
        scenario=config.scenario,
        strategy=config.strategy,
        model=resolved_model(config.model, config.scenario, config.strategy),
        seed=asked.seed,
        phase=Phase.TUNING if part is Part.TUNING_HALF else Phase.EVALUATION,
        part=part,
        selection=Selection(by="given"),
        protocol="pretrain",
        device=device_of(config.device),
        output=config.output,
        root=config.data.root,
    )
    from clbench.cli.progress import steps

    with steps("pre-training") as advance:
        done = pretrain(training, asked.output, shlex.join(["clbench", "pretrain", *words]), advance)
    accuracy, examples = done.certificate["test_accuracy"], done.certificate["test_examples"]
    print(f"{done.path}: {done.certificate['classes']} classes, {accuracy:.1f} % of {examples} test examples right")
    return 0
