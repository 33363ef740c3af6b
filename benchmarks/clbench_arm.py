"""The arms that run through clbench, from a `Run` to its record on disk, as ``clbench run`` does it.

python benchmarks/clbench_arm.py NETWORK DATA {clbench,full,hft}
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import synthetic
import workload
from probe import Probe

from clbench import engine, metrics
from clbench.finetune import Schedule
from clbench.memory import MemoryConfig
from clbench.models.config import ModelConfig
from clbench.record import Part, Phase, Selection
from clbench.run import Run
from clbench.strategy import strategies

SHARED: dict[str, Any] = {
    "epochs": 1,
    "batch_size": workload.BATCH,
    "lr": workload.LEARNING_RATE,
    "momentum": workload.MOMENTUM,
    "weight_decay": workload.WEIGHT_DECAY,
    "schedule": Schedule.CONSTANT,
}

ARMS: dict[str, tuple[str, dict[str, Any]]] = {
    "clbench": ("replay", {"memory": MemoryConfig(capacity=workload.MEMORY, batch_size=workload.REPLAYED)}),
    "full": ("naive", {}),
    "hft": ("hft", {"first_frozen": 0}),
}
"""The arm's name: a strategy and its own fields."""


def run(network: str, root: Path, output: Path, arm: str) -> Run:
    """What the arm asks clbench for."""
    strategy, fields = ARMS[arm]
    name, width = workload.NETWORKS[network]
    return Run(
        scenario=synthetic.SyntheticConfig(),
        strategy=strategies.load(strategy)[1](**SHARED, **fields),
        model=ModelConfig(name=name, width=width),
        seed=workload.SEED,
        phase=Phase.EVALUATION,
        part=Part.WHOLE,
        selection=Selection(by="given"),
        protocol="single",
        device="cpu",
        output=output,
        root=root,
    )


def main(network: str, data: Path, arm: str) -> workload.Result:
    probe = Probe()
    with tempfile.TemporaryDirectory() as output:
        record = engine.execute(run(network, data.parent, Path(output), arm))
    training = sum(cost.learn_cpu_seconds for cost in record.costs)
    evaluation = sum(cost.evaluate_cpu_seconds for cost in record.costs)
    return probe.result(training, evaluation, metrics.last_accuracy(record))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3]).print()
