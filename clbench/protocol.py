"""Protocols: which runs are made, on which part of a scenario, with which seeds and hyper-parameters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clbench.errors import ClbenchError
from clbench.models.config import ModelConfig
from clbench.record import Part, Phase, Record, Selection
from clbench.registry import Registry
from clbench.run import Run
from clbench.space import require

Submit = Callable[[Run], "Future[Record]"]
"""Hands a run to an executor."""


@dataclass(frozen=True)
class Study:
    """What is to be found out: one strategy on one scenario.

    Attributes:
        scenario: config of the scenario.
        strategy: config of the strategy, as given or by default.
        model: config of the model.
        device: ``cpu`` or ``cuda``.
        output: where runs are kept.
        root: where data are looked for first.
        asked: what the user typed; fields of the strategy among them are fixed, never searched.
    """

    scenario: Any
    strategy: Any
    model: ModelConfig
    device: str
    output: Path
    root: Path | None = None
    asked: dict[str, str] = field(default_factory=dict)

    @property
    def fixed(self) -> frozenset[str]:
        """Names of the strategy's fields that the user set."""
        return frozenset(k.removeprefix("strategy.") for k in self.asked if k.startswith("strategy."))

    def run(self, protocol: str, **chosen: Any) -> Run:
        """One run of this study; ``chosen`` are the fields of `Run` that the protocol decides."""
        settled = {
            "scenario": self.scenario,
            "strategy": self.strategy,
            "model": self.model,
            "device": self.device,
            "output": self.output,
            "root": self.root,
            "asked": tuple(self.asked.items()),
            "protocol": protocol,
        }
        return Run(**settled | chosen)


@dataclass(frozen=True)
class Stage:
    """One line of a plan: runs of one kind, which may go on side by side.

    Attributes:
        text: what is done, for people.
        runs: how many.
        example: one of them, to estimate the time by.
    """

    text: str
    runs: int
    example: Run


class Protocol(ABC):
    """A plan of runs."""

    def __init__(self, config: Any) -> None:
        self.config = config

    @abstractmethod
    def plan(self, study: Study) -> tuple[Stage, ...]:
        """What `carry_out` will do, stage by stage; computes nothing."""

    @abstractmethod
    def carry_out(self, study: Study, submit: Submit) -> tuple[Record, ...]:
        """Make the runs; return those that are reported."""


protocols: Registry[Protocol] = Registry("protocol", "clbench.protocols")


def gather(futures: Sequence[Future[Record]]) -> tuple[Record, ...]:
    """Wait for all, then return their records in order.

    Raises:
        ClbenchError: some failed; the others are finished and kept all the same.
    """
    errors = [error for error in (future.exception() for future in futures) if error is not None]
    for error in errors:
        if isinstance(error, ClbenchError):
            raise error
    if errors:
        raise RunError(f"{len(errors)} of {len(futures)} runs failed, the first with {errors[0]!r}") from errors[0]
    return tuple(future.result() for future in futures)


class RunError(Exception):
    """Runs ended with an exception that is no user's mistake."""


def evaluation_run(study: Study, protocol: str, seed: int, part: Part, selection: Selection, **halves: Any) -> Run:
    """A run that is reported."""
    return study.run(protocol, seed=seed, phase=Phase.EVALUATION, part=part, selection=selection, **halves)


def check_seeds(name: str, seeds: Sequence[int]) -> None:
    """Check a list of seeds in a config.

    Raises:
        ConfigError: it is empty, repeats a seed, or holds one that numpy cannot take.
    """
    require(len(seeds) > 0, name, "a list of at least one seed", list(seeds))
    require(len(set(seeds)) == len(seeds), name, "a list of different seeds", list(seeds))
    require(all(0 <= seed < 2**32 for seed in seeds), name, "in 0 .. 2**32 - 1", list(seeds))
