"""Given hyper-parameters, one run per seed, on all classes or on one half of them.

For papers' settings and for a quick look. Nothing is tuned, so nothing can leak; but if the values were found by
looking at these same classes, that happened outside, and the record says no more than "given". One half, where the
model was pre-trained on the other: ``part=evaluation_half`` leaves out the classes that ``clbench pretrain`` takes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from clbench.protocol import Protocol, Stage, Study, Submit, check_seeds, evaluation_run, gather, protocols
from clbench.record import Part, Record, Selection
from clbench.run import Run


class Half(Enum):
    """Parts of a scenario that may be reported."""

    WHOLE = "whole"
    EVALUATION_HALF = "evaluation_half"


@dataclass
class SingleConfig:
    """One run per seed."""

    seeds: list[int] = field(default_factory=lambda: [0])  # of class order, initialisation and everything else
    part: Half = Half.WHOLE  # classes that take part

    def __post_init__(self) -> None:
        check_seeds("protocol.seeds", self.seeds)


@protocols.register(SingleConfig)
class Single(Protocol):
    """One evaluation run per seed."""

    config: SingleConfig

    def plan(self, study: Study) -> tuple[Stage, ...]:
        """One stage."""
        runs = self._runs(study)
        classes = "all classes" if self.config.part is Half.WHOLE else "the evaluation half"
        return (Stage(f"{classes}, given hyper-parameters, seeds {self.config.seeds}", len(runs), runs[0]),)

    def carry_out(self, study: Study, submit: Submit) -> tuple[Record, ...]:
        """All seeds side by side."""
        return gather([submit(run) for run in self._runs(study)])

    def _runs(self, study: Study) -> list[Run]:
        given, part = Selection(by="given"), Part[self.config.part.name]
        return [evaluation_run(study, "single", seed, part, given) for seed in self.config.seeds]
