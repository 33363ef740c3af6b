"""A recorded run, as it would be asked for today."""

from __future__ import annotations

from pathlib import Path

from clbench.config import restored
from clbench.models.config import ModelConfig
from clbench.record import Record
from clbench.run import Run
from clbench.scenario import scenarios
from clbench.strategy import strategies


def run_of(record: Record, output: Path, root: Path | None = None) -> Run:
    """The run that a record tells of, on this machine's processor and to be kept below ``output``.

    Fields that have come to a config since get their defaults, so the run's identity need not be the record's.

    Args:
        record: of any run.
        output: where the new run is kept.
        root: where data are looked for first.

    Raises:
        ClbenchError: there is no such scenario or strategy any more, or it takes no such value.
    """
    return Run(
        scenario=restored(scenarios.load(record.scenario)[1], record.scenario_config),
        strategy=restored(strategies.load(record.strategy)[1], record.strategy_config),
        model=restored(ModelConfig, record.model_config),
        seed=record.seed,
        phase=record.phase,
        part=record.part,
        selection=record.selection,
        protocol=record.protocol,
        device="cpu",
        output=output,
        root=root,
        split_seed=record.split_seed,
        swap=record.swapped,
        asked=tuple(record.asked.items()),
    )
