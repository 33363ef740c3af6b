"""Editors that change a language model in closed form, or add something to it, a few edits at a time.

They see each edit once, in the order of the stream, ``batch_size`` at a time, and no edit of the past again; what they
keep instead (statistics, keys, a codebook) is in ``auxiliary`` and weighed as stored state.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from clbench.errors import DivergedError
from clbench.models.causal import CausalModel
from clbench.models.low_rank import no_bare_matrices
from clbench.scenario import Experience, Modality
from clbench.space import require
from clbench.strategy import Problem, Strategy
from clbench.table import Batch


@dataclass
class EditorConfig:
    """How many edits are made at a time."""

    batch_size: int = 1  # edits that are made together

    def __post_init__(self) -> None:
        require(self.batch_size >= 1, "strategy.batch_size", ">= 1", self.batch_size)


class Editor(Strategy):
    """Edits one model, batch after batch.

    Attributes:
        model: the causal language model, frozen and in evaluation mode.
        auxiliary: tensors that later edits depend on, by name.
    """

    learns: ClassVar[frozenset[Modality]] = frozenset({Modality.TEXTS})
    config: EditorConfig

    def __init__(self, config: EditorConfig, problem: Problem) -> None:
        super().__init__(config, problem)
        self.model = cast(CausalModel, problem.model()).to(problem.device).eval().requires_grad_(False)
        self.auxiliary: dict[str, Tensor] = {}

    @classmethod
    def skip(cls, config: Any, problem: Problem) -> str | None:
        """It needs the model's own matrices."""
        return no_bare_matrices(problem.model())

    def learn(self, experience: Experience) -> None:
        """Make the edits of one experience, in their order."""
        self.model.grow(experience.outputs)
        for rows in experience.train.rows.split(self.config.batch_size):
            self.edit(experience.train.source.take(rows))
        if not all(bool(p.isfinite().all()) for p in self.changed().values()):
            raise DivergedError(f"a weight is no longer finite after experience {experience.index}")

    @abstractmethod
    def edit(self, batch: Batch) -> None:
        """Make some edits.

        Args:
            batch: columns of `clbench.texts.tokens` with targets and EOS, and ``subject`` (N,) int64, the place of the
                last token of the subject in its row, -1 where unknown.
        """

    @abstractmethod
    def changed(self) -> dict[str, Tensor]:
        """The model's tensors that edits change, by name; empty where they only add something beside it."""

    @torch.no_grad()
    def predict(self, batch: Batch) -> Tensor:
        """The model's answers, (N, A) int64."""
        return self.model.predict(self.problem.transform.evaluate(batch))

    @torch.no_grad()
    def log_likelihoods(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Log-likelihood (N,) of each text's answer, in nats, and its number of tokens (N,)."""
        return self.model.log_likelihoods(self.problem.transform.evaluate(batch))

    @torch.no_grad()
    def token_matches(self, batch: Batch) -> Tensor:
        """Share (N,) of each answer's tokens that are the likeliest after the right ones before them."""
        return self.model.token_matches(self.problem.transform.evaluate(batch))

    def stored_bytes(self) -> int:
        """Bytes of auxiliary tensors."""
        return sum(t.numel() * t.element_size() for t in self.auxiliary.values())

    def parameters(self) -> tuple[int, int]:
        """Numbers of parameters (all, those that edits change)."""
        return sum(p.numel() for p in self.model.parameters()), sum(p.numel() for p in self.changed().values())

    def state(self) -> dict[str, Any]:
        """What edits changed, and auxiliary tensors."""
        changed = {name: tensor.detach() for name, tensor in self.changed().items()}
        return {"outputs": self.model.outputs, "model": changed, "auxiliary": self.auxiliary}

    @torch.no_grad()
    def restore(self, state: dict[str, Any]) -> None:
        """Go on as the strategy whose `state` this is would."""
        self.model.grow(state["outputs"])
        for name, tensor in self.changed().items():
            tensor.copy_(state["model"][name])
        self.auxiliary = {name: tensor.to(self.problem.device) for name, tensor in state["auxiliary"].items()}
