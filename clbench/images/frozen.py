"""What strategies with a frozen backbone share: never trained at all, or adapted to the first experience only.

`FrozenFeatures` trains nothing: it reads cached features and keeps statistics of them. `FirstSession` trains adapters
on the first experience (arXiv 2303.07338 and 2307.02251 call it first-session adaptation), freezes everything, and
from then on keeps statistics as well.
"""

from __future__ import annotations

import functools
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from clbench.digest import state_digest
from clbench.errors import CheckpointError
from clbench.finetune import FineTuneClassifier, FineTuneConfig, Schedule
from clbench.images.prototypes import best
from clbench.models.adapters import AdaptedTransformer
from clbench.models.head import CosineHead
from clbench.models.transformer import no_transformer, opened
from clbench.scenario import Experience
from clbench.space import Choice, LogUniform, require, searched
from clbench.strategy import Problem, Strategy
from clbench.table import Batch


class FrozenFeatures(Strategy):
    """Learn from the features of the backbone as it comes, without a gradient.

    Attributes:
        model: never changes, and is no part of the state.
        kept: tensors that make up all that was learnt.
    """

    pretrained: ClassVar[bool] = True

    def __init__(self, config: Any, problem: Problem) -> None:
        super().__init__(config, problem)
        self.model = problem.model().requires_grad_(False)
        self.kept: dict[str, Tensor] = {}

    @classmethod
    def reads(cls, config: Any) -> frozenset[str]:
        """Features only."""
        return frozenset({"feature"})

    @abstractmethod
    def scores(self, features: Tensor) -> Tensor:
        """Of features (N, F), for each class learnt so far (N, C): the larger, the likelier; -inf where unknown."""

    @torch.no_grad()
    def predict(self, batch: Batch) -> Tensor:
        """Labels (N,) int64."""
        return best(self.scores(batch["feature"]), batch, self.model.task_of_class)

    def stored_bytes(self) -> int:
        """Bytes of what is kept."""
        return sum(t.numel() * t.element_size() for t in self.kept.values())

    def parameters(self) -> tuple[int, int]:
        """The backbone's, of which none is trained."""
        return sum(p.numel() for p in self.model.backbone.parameters()), 0

    @functools.cached_property
    def _backbone(self) -> str:
        return state_digest(self.model.backbone.state_dict())

    def state(self) -> dict[str, Any]:
        """What is kept, and of the backbone, which comes anew with every process, the digest."""
        return {"backbone": self._backbone, "kept": self.kept}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on as the strategy whose `state` this is would.

        Raises:
            CheckpointError: that one had another backbone.
        """
        if state["backbone"] != self._backbone:
            raise CheckpointError(
                f"this run was begun with other weights of the backbone (digest {state['backbone'][:12]}, now "
                f"{self._backbone[:12]}); put the old ones back, or delete the run's folder to begin anew"
            )
        self.kept = {name: tensor.to(self.problem.device) for name, tensor in state["kept"].items()}


@dataclass
class FirstSessionConfig(FineTuneConfig):
    """The shared fields, which act in the first experience only, and the adapters'."""

    epochs: int = 20  # passes over the first experience
    batch_size: int = 48  # examples per step
    lr: float = searched(0.01, LogUniform(0.01, 0.05))  # learning rate at the start
    weight_decay: float = searched(5e-4, LogUniform(1e-4, 5e-3))  # of adapters and head
    schedule: Schedule = Schedule.COSINE_EPOCHS  # course of the learning rate
    rank: int = searched(64, Choice((4, 8, 16, 32, 64)))  # numbers between an adapter's two layers

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.rank >= 1, "strategy.rank", ">= 1", self.rank)
        self.memory.require_none("where no exemplar is used")


class FirstSession(FineTuneClassifier):
    """Adapters and a cosine head learn the first experience; then `collect` is all that learns."""

    pretrained: ClassVar[bool] = True
    config: FirstSessionConfig

    def __init__(self, config: FirstSessionConfig, problem: Problem) -> None:
        super().__init__(config, problem)
        self.width = cast(int, self.model.backbone.features_out)
        if self.adapts(config):
            self.model.backbone = AdaptedTransformer(opened(self.model.backbone), config.rank)
            self.model.head = CosineHead(self.width, self.model.outputs)
        self.model.to(problem.device)

    @classmethod
    def adapts(cls, config: Any) -> bool:
        """Whether the first experience trains adapters."""
        return True

    @classmethod
    def skip(cls, config: Any, problem: Problem) -> str | None:
        """Adapters go into vision transformers only."""
        return no_transformer(problem.model().backbone) if cls.adapts(config) else None

    @abstractmethod
    def collect(self, experience: Experience) -> None:
        """Take from an experience what is kept of it; everything is frozen, without gradients."""

    def learn(self, experience: Experience) -> None:
        """Train if this is the first experience; then collect."""
        self.trained = 0
        if experience.index == 0 and self.adapts(self.config):
            super().learn(experience)
        self.model.eval()
        with torch.no_grad():
            self.collect(experience)

    def loss(self, batch: Batch) -> Tensor:
        """Cross-entropy of the adapted features' logits, whatever features the batch brings."""
        logits = self.model.head(self.model.backbone(batch["image"])).float()
        return self.model.cross_entropy(logits, batch)
