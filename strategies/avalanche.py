"""Any of a dozen strategies of Avalanche, run as they are.

``strategy.name`` is a template of ``avalanche.training``, ``strategy.arguments`` what only that template takes, e.g.
``strategy=avalanche strategy.name=EWC strategy.arguments.ewc_lambda=10``. Avalanche (Carta et al. 2023, arXiv
2302.01766) does all learning: its loop, its losses, its memories, its data loaders. Experiences, augmentation, network,
initialisation, measuring and checkpoints are clbench's.

What differs from clbench's own strategies: the learning rate is constant and momentum goes on from one experience to
the next, as Avalanche has it; images are augmented one at a time; the optimiser's state counts among the stored bytes.
Needs ``pip install 'clbench[avalanche]'``. Certificate: bit for bit what Avalanche's Naive, Replay and EWC learn when
driven by hand, by a test; no published number is reproduced yet.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor

from clbench import seeding
from clbench.errors import DivergedError, IncompatibleError
from clbench.models.classifier import Classifier
from clbench.scenario import Experience
from clbench.space import LogUniform, require, searched
from clbench.strategy import Problem, Strategy, strategies
from clbench.table import Batch


@dataclass
class AvalancheConfig:
    """The template, what it is told, and the fields of plain SGD."""

    name: str = "Naive"  # template: AGEM, EWC, GDumb, LwF, MIR, Replay, SynapticIntelligence, ...
    arguments: dict[str, Any] = field(default_factory=dict)  # of the template, e.g. strategy.arguments.mem_size=500
    epochs: int = 10  # passes over each experience
    batch_size: int = 32  # new examples per step
    lr: float = searched(0.05, LogUniform(1e-3, 0.5))  # learning rate, constant
    momentum: float = 0.9  # of SGD
    weight_decay: float = searched(1e-4, LogUniform(1e-5, 1e-2))  # L2 penalty

    def __post_init__(self) -> None:
        from clbench.avalanche import templates

        require(self.epochs >= 1, "strategy.epochs", ">= 1", self.epochs)
        require(self.batch_size >= 1, "strategy.batch_size", ">= 1", self.batch_size)
        require(self.lr > 0 and math.isfinite(self.lr), "strategy.lr", "> 0", self.lr)
        require(0 <= self.momentum < 1, "strategy.momentum", "in [0, 1)", self.momentum)
        require(self.weight_decay >= 0, "strategy.weight_decay", ">= 0", self.weight_decay)
        self.arguments = templates.arguments(self.name, self.arguments)


@strategies.register(AvalancheConfig)
class Avalanche(Strategy):
    """An Avalanche strategy that is handed one experience at a time.

    Attributes:
        learner: the template; its ``model.classifier`` is ours.
    """

    config: AvalancheConfig

    def __init__(self, config: AvalancheConfig, problem: Problem) -> None:
        from clbench.avalanche import data, templates

        super().__init__(config, problem)
        self.images = data.Images()
        self.freezer = templates.freezer(problem, self.images)
        classifier = cast(Classifier, problem.model())
        with seeding.isolated(problem.seed, "avalanche"):
            self.learner = templates.build(config.name, config.arguments, classifier, vars(config))
        self._row_bytes = 0

    def learn(self, experience: Experience) -> None:
        """Hand the experience to Avalanche.

        Raises:
            IncompatibleError: Avalanche fails, e.g. because an argument does not suit the stream.
            DivergedError: a parameter is no longer finite.
        """
        from clbench.avalanche import data, templates

        self.images.put(experience.train.source)
        self._row_bytes = experience.train.source.row_bytes
        examples = data.of_table(self.images, experience.train, self.problem.setting, self.problem.transform)
        try:
            with templates.quiet():
                self.learner.train(data.experience(examples, experience), eval_streams=[])
        except (AssertionError, IndexError, TypeError, ValueError) as error:
            said = str(error).partition("\n")[0]
            raise IncompatibleError(
                f"Avalanche's {self.config.name} fails in experience {experience.index} with "
                f"{type(error).__name__}: {said}; see its strategy.arguments"
            ) from error
        self.learner.model.eval()
        if not all(p.isfinite().all() for p in self.learner.model.parameters()):
            raise DivergedError(f"a parameter is not finite after experience {experience.index}")

    @torch.no_grad()
    def predict(self, batch: Batch) -> Tensor:
        """Labels (N,) int64."""
        self.learner.model.eval()
        answers: Tensor = self.learner.model.classifier.predict(self.problem.transform.evaluate(batch))
        return answers

    def parameters(self) -> tuple[int, int]:
        """Numbers of parameters (all, those that are trained)."""
        sizes = [(p.numel(), p.requires_grad) for p in self.learner.model.parameters()]
        return sum(n for n, _ in sizes), sum(n for n, trained in sizes if trained)

    def stored_bytes(self) -> int:
        """Bytes of the examples and of the tensors that the template keeps beside the model."""
        tensors, rows = _kept(self.freezer.freeze(self.learner))
        model: int = sum(t.numel() * t.element_size() for t in self.learner.model.state_dict().values())
        return tensors - model + len(rows) * self._row_bytes

    def state(self) -> dict[str, Any]:
        """The template with all that it keeps; its examples as row numbers."""
        return {"learner": self.freezer.freeze(self.learner), "row_bytes": self._row_bytes}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on as the strategy whose `state` this is would."""
        with seeding.isolated(self.problem.seed, "restore"):
            self.learner = self.freezer.thaw(state["learner"])
        self._row_bytes = state["row_bytes"]


def _kept(plain: Any) -> tuple[int, set[int]]:
    """Bytes of all tensors in a frozen learner, and the rows of all its datasets."""
    if isinstance(plain, Tensor):
        return plain.numel() * plain.element_size(), set()
    if isinstance(plain, dict) and "rows" in plain:
        return _kept(plain.get("more", []))[0], set(plain["rows"].tolist())
    if not isinstance(plain, dict | list):
        return 0, set()
    parts = [_kept(part) for part in (plain.values() if isinstance(plain, dict) else plain)]
    return sum(size for size, _ in parts), set().union(*(rows for _, rows in parts))
