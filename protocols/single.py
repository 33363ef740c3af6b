"""Given hyper-parameters, all classes, one run per seed.

For papers' settings and for a quick look. Nothing is tuned, so nothing can leak; but if the values were found by
looking at these same classes, that happened outside, and the record says no more than "given".
"""

from __future__ import annotations

from dataclasses import dataclass, field

from clbench.protocol import Protocol, Stage, Study, Submit, check_seeds, evaluation_run, gather, protocols
from clbench.record import Part, Record, Selection
from clbench.run import Run


@dataclass
class SingleConfig:
    """One run per seed."""

    seeds: list[int] = field(default_factory=lambda: [0])  # of class order, initialisation and everything else

    def __post_init__(self) -> None:
        check_seeds("protocol.seeds", self.seeds)


@protocols.register(SingleConfig)
class Single(Protocol):
    """One evaluation run per seed on the whole scenario."""

    config: SingleConfig

    def plan(self, study: Study) -> tuple[Stage, ...]:
        """One stage."""
        runs = self._runs(study)
        return (Stage(f"all classes, given hyper-parameters, seeds {self.config.seeds}", len(runs), runs[0]),)

    def carry_out(self, study: Study, submit: Submit) -> tuple[Record, ...]:
        """All seeds side by side."""
        return gather([submit(run) for run in self._runs(study)])

    def _runs(self, study: Study) -> list[Run]:
        given = Selection(by="given")
        return [evaluation_run(study, "single", seed, Part.WHOLE, given) for seed in self.config.seeds]
