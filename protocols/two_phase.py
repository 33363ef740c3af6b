"""Tune on one half of the classes, report on the other.

The generalisable two-phase evaluation protocol (GTEP; Cha & Cho, "Hyperparameters in Continual Learning: A Reality
Check", arXiv 2403.09066). Phase one draws hyper-parameters, runs each draw over several tuning seeds on the tuning
half, and takes the draw whose mean criterion is best. Phase two freezes it and runs it once per evaluation seed on the
evaluation half, whose classes no tuning run can open. What differs from the paper: tuning and evaluation seeds are
disjoint (arXiv 2306.01324), every experience is tuned, the first one too, and trial 0 tries the defaults, so that a
search cannot end below them by bad luck on the tuning half. The criterion is the paper's on images, the mean accuracy
over the course; other scenarios name their own. No published number is reproduced yet.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

from clbench.errors import ConfigError, IncompatibleError, LeakError
from clbench.metrics import METRICS
from clbench.protocol import Protocol, Stage, Study, Submit, check_seeds, evaluation_run, gather, protocols
from clbench.record import Part, Phase, Record, Selection
from clbench.registry import unknown
from clbench.run import Run
from clbench.scenario import scenarios
from clbench.space import Sampler, ranges, require, with_values


@dataclass
class TwoPhaseConfig:
    """How much is spent on tuning, and which seeds are for what."""

    trials: int = 8  # draws of hyper-parameters; the first is the defaults
    sampler: Sampler = Sampler.RANDOM  # how draws are made
    sampler_seed: int = 0  # of the draws
    batch: int = 4  # draws that tpe makes before it is told their scores
    criterion: str | None = None  # what the winner has most of; null: what the scenario names
    tuning_seeds: list[int] = field(default_factory=lambda: [100, 101])  # none of them may be an evaluation seed
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2, 3, 4])  # evaluation seeds
    split_seed: int | None = None  # draws the halves at random; null: by class number
    swap: bool = False  # tune on the second half, report on the first

    def __post_init__(self) -> None:
        require(self.trials >= 1, "protocol.trials", ">= 1", self.trials)
        require(self.batch >= 1, "protocol.batch", ">= 1", self.batch)
        check_seeds("protocol.seeds", self.seeds)
        check_seeds("protocol.tuning_seeds", self.tuning_seeds)
        shared = sorted(set(self.seeds) & set(self.tuning_seeds))
        if shared:
            raise ConfigError(f"protocol.tuning_seeds and protocol.seeds must have no seed in common, got {shared}")
        if self.criterion is not None and self.criterion not in METRICS:
            raise unknown("criterion", self.criterion, sorted(METRICS))


@protocols.register(TwoPhaseConfig)
class TwoPhase(Protocol):
    """Search on the tuning half, then one shot per seed on the evaluation half."""

    config: TwoPhaseConfig

    def plan(self, study: Study) -> tuple[Stage, ...]:
        """Two stages."""
        config, names = self.config, list(self._searched(study))
        draws = config.trials if names else 1
        tuning = self._tuning_run(study, study.strategy, config.tuning_seeds[0])
        evaluation = self._evaluation_runs(study, Selection(by="planned"))
        what = f"{draws} draws of {', '.join(names)}" if names else "nothing is searched"
        return (
            Stage(f"tuning half, {what}, seeds {config.tuning_seeds}", draws * len(config.tuning_seeds), tuning),
            Stage(f"evaluation half, the winner, seeds {config.seeds}", len(config.seeds), evaluation[0]),
        )

    def carry_out(self, study: Study, submit: Submit) -> tuple[Record, ...]:
        """Tune, freeze, evaluate."""
        strategy, selection = self.tune(study, tuning_only(submit))
        frozen = replace(study, strategy=strategy)
        return gather([submit(run) for run in self._evaluation_runs(frozen, selection)])

    def tune(self, study: Study, submit: Submit) -> tuple[Any, Selection]:
        """The winning strategy config, and how it won. ``submit`` accepts tuning runs only."""
        from clbench.search import search

        config, space, criterion = self.config, self._searched(study), self.criterion(study)
        table: list[tuple[str, float]] = []

        def score(draws: Sequence[dict[str, Any]]) -> list[float]:
            runs = [
                [self._tuning_run(study, with_values(study.strategy, d), s) for s in config.tuning_seeds] for d in draws
            ]
            records = gather([submit(run) for seeds in runs for run in seeds])
            values = [_worth(METRICS[criterion], r) for r in records]
            if any(math.isnan(value) for value in values):
                raise IncompatibleError(f"protocol.criterion={criterion} has no value on this scenario; choose another")
            table.extend((r.run, value) for r, value in zip(records, values, strict=True))
            count = len(config.tuning_seeds)
            return [sum(values[i : i + count]) / count for i in range(0, len(values), count)]

        start = {name: getattr(study.strategy, name) for name in space}
        batch = config.trials if config.sampler is Sampler.RANDOM else config.batch
        tried = search(space, start, config.trials, config.sampler, config.sampler_seed, batch, score)
        best, value = max(tried, key=lambda trial: trial[1])
        sign = 1 if METRICS[criterion].higher_is_better else -1
        selection = Selection(
            by=f"two_phase, {config.sampler.value}",
            criterion=criterion,
            trials=len(tried),
            tuning_seeds=tuple(config.tuning_seeds),
            tuning_score=sign * value,
            tuning_runs=tuple(name for name, _ in table),
            tuning_table=hashlib.sha256(json.dumps(table).encode()).hexdigest(),
        )
        return with_values(study.strategy, best), selection

    def criterion(self, study: Study) -> str:
        """The metric that the winner has most of: as given, or the scenario's."""
        scenario, _ = scenarios.load(scenarios.name_of(study.scenario))
        return self.config.criterion or scenario.criterion

    def _searched(self, study: Study) -> dict[str, Any]:
        scenario, _ = scenarios.load(scenarios.name_of(study.scenario))
        found = ranges(study.strategy, scenario.training)
        return {name: r for name, r in found.items() if name not in study.fixed}

    def _halves(self) -> dict[str, Any]:
        return {"split_seed": self.config.split_seed, "swap": self.config.swap}

    def _tuning_run(self, study: Study, strategy: Any, seed: int) -> Run:
        return study.run(
            "two_phase",
            strategy=strategy,
            seed=seed,
            phase=Phase.TUNING,
            part=Part.TUNING_HALF,
            selection=Selection(by="tuning"),
            **self._halves(),
        )

    def _evaluation_runs(self, study: Study, selection: Selection) -> list[Run]:
        return [
            evaluation_run(study, "two_phase", seed, Part.EVALUATION_HALF, selection, **self._halves())
            for seed in self.config.seeds
        ]


def tuning_only(submit: Submit) -> Submit:
    """The same executor for someone who tunes: it takes no run that opens anything but the tuning half."""

    def guarded(run: Run) -> Future[Record]:
        if run.phase is not Phase.TUNING or run.part is not Part.TUNING_HALF:
            raise LeakError(f"while tuning, only the tuning half may be opened, not the {run.part.value}")
        return submit(run)

    return guarded


def _worth(metric: Any, record: Record) -> float:
    value = float(metric.function(record))
    return value if metric.higher_is_better else -value
