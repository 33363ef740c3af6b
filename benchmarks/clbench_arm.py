"""The arms that run through clbench, from a `Run` to its record on disk, as ``clbench run`` does it.

python benchmarks/clbench_arm.py {tiny,slim,vit,adapters,texts} FOLDER {clbench,full,hft}
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import workload
from probe import Probe

from clbench import engine, metrics
from clbench.finetune import Optimizer, Schedule
from clbench.memory import MemoryConfig
from clbench.models.config import ModelConfig
from clbench.record import Part, Phase, Selection
from clbench.run import Run, resolved_model
from clbench.strategy import strategies


class Asked(NamedTuple):
    """What an arm asks clbench for: configs of scenario and model, the strategy and its fields."""

    scenario: Any
    model: ModelConfig
    strategy: str
    fields: dict[str, Any]


REPLAY: dict[str, tuple[str, dict[str, Any]]] = {
    "clbench": ("replay", {"memory": MemoryConfig(capacity=workload.MEMORY, batch_size=workload.REPLAYED)}),
    "full": ("naive", {}),
    "hft": ("hft", {"first_frozen": 0}),
}
"""Strategy and fields of each arm on the workloads of replay."""


def replay(network: str, arm: str) -> Asked:
    """Replay, or one of the two whose steps are compared with each other."""
    import synthetic

    name, width = workload.NETWORKS[network]
    shared = {
        "batch_size": workload.BATCH,
        "lr": workload.LEARNING_RATE,
        "momentum": workload.MOMENTUM,
        "weight_decay": workload.WEIGHT_DECAY,
        "epochs": 1,
    }
    strategy, fields = REPLAY[arm]
    return Asked(synthetic.SyntheticConfig(), ModelConfig(name=name, width=width), strategy, shared | fields)


def adapters() -> Asked:
    """EASE on the embedded vision transformer."""
    import adapters
    import synthetic

    fields = {
        "rank": adapters.RANK,
        "scale": adapters.SCALE,
        "dropout": adapters.DROPOUT,
        "alpha": adapters.ALPHA,
        "epochs": adapters.EPOCHS,
        "batch_size": adapters.BATCH,
    }
    return Asked(synthetic.SyntheticConfig(), ModelConfig(), "ease", fields | adapters.OPTIMIZER)


def texts(folder: Path) -> Asked:
    """Fine-tuning of the embedded language model."""
    import texts

    fields = {
        "batch_size": texts.BATCH,
        "lr": texts.LEARNING_RATE,
        "optimizer": Optimizer.ADAMW,
        "weight_decay": 0.0,
        "epochs": 1,
    }
    return Asked(texts.scenario(folder), texts.MODEL, "naive", fields)


def run(name: str, folder: Path, output: Path, arm: str) -> Run:
    """One run of a workload."""
    if name == "texts":
        asked = texts(folder)
    elif name == "adapters":
        asked = adapters()
    else:
        asked = replay(name, arm)
    strategy = strategies.load(asked.strategy)[1](**asked.fields, schedule=Schedule.CONSTANT)
    return Run(
        scenario=asked.scenario,
        strategy=strategy,
        model=resolved_model(asked.model, asked.scenario, strategy),
        seed=workload.SEED,
        phase=Phase.EVALUATION,
        part=Part.WHOLE,
        selection=Selection(by="given"),
        protocol="single",
        device="cpu",
        output=output,
        root=folder,
    )


def main(name: str, folder: Path, arm: str) -> workload.Result:
    probe = Probe()
    with tempfile.TemporaryDirectory() as output:
        record = engine.execute(run(name, folder, Path(output), arm))
    training = sum(cost.learn_cpu_seconds for cost in record.costs)
    evaluation = sum(cost.evaluate_cpu_seconds for cost in record.costs)
    return probe.result(training, evaluation, metrics.last_accuracy(record))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3]).print()
