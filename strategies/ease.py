"""EASE: adapters and a space of features for each experience, and class prototypes in all of them.

Zhou et al. 2024, arXiv 2403.12030, section 4. Each experience t trains fresh adapters on a frozen transformer together
with a cosine head over its own classes, which is then thrown away. phi_s are the features through experience s's
adapters; the prototype P_s(c) of class c in space s is the mean of phi_s over the examples of c, for all spaces that
there are when c is learnt. In later spaces s it is made up of those of later classes n (experiences s, s + 1, ...), by
how much c resembles them in its own space i:

    P_s(c) = sum over n of softmax_n( cos(P_i(c), P_i(n)) ) P_s(n)

The answer is the class with the largest score, for a class c of experience i after t further ones

    cos(phi_i(x), P_i(c)) + alpha / t * sum over spaces s other than i of cos(phi_s(x), P_s(c))

What differs from the authors' code: experiences may differ in size; the transformer's own features are never one of the
spaces (an option there, off in their settings). All spaces share what comes before the first adapter, otherwise an
image passes once through each. Defaults are those for CIFAR-100. In a task-incremental stream the scores of the
example's own task compete, and before a task is learnt the untrained outputs answer. Certificate: no published number
is reproduced yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clbench.finetune import EVALUATION_BATCH, FineTuneClassifier, FineTuneConfig, Schedule
from clbench.models.adapters import AdaptedTransformer, AdapterWeights
from clbench.models.head import CosineHead
from clbench.models.transformer import no_transformer, opened
from clbench.scenario import Experience
from clbench.space import Choice, Uniform, require, searched
from clbench.strategy import Problem, strategies
from clbench.table import Batch


@dataclass
class EaseConfig(FineTuneConfig):
    """The shared fields, with the authors' values, and those of adapters and scores."""

    epochs: int = 20  # passes over each experience
    batch_size: int = 48  # examples per step
    lr: float = searched(0.025, Uniform(0.01, 0.05))  # learning rate at the start of each experience
    weight_decay: float = searched(5e-4, Choice((1e-4, 5e-4, 1e-3, 5e-3)))  # L2 penalty
    schedule: Schedule = Schedule.COSINE_EPOCHS  # course of the learning rate within one experience
    rank: int = searched(64, Choice((4, 8, 16, 32, 64)))  # numbers between an adapter's two layers
    scale: float = 0.1  # of an adapter's change
    dropout: float = 0.1  # between an adapter's two layers
    alpha: float = searched(0.1, Choice((0.01, 0.05, 0.1, 0.15, 0.2)))  # weight of the other spaces

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.rank >= 1, "strategy.rank", ">= 1", self.rank)
        require(0 <= self.dropout < 1, "strategy.dropout", "in [0, 1)", self.dropout)
        require(self.alpha >= 0, "strategy.alpha", ">= 0", self.alpha)
        self.memory.require_none("for ease")


def completed(prototypes: Tensor, tasks: Tensor) -> Tensor:
    """Prototypes with those of each class in later spaces than its own made up of later classes'.

    Args:
        prototypes: (S, C, F) float; what stands in the places to be made up is not read.
        tasks: (C,) int64, ascending, each class's experience and own space, 0..S - 1 without a gap.

    Returns:
        (S, C, F).
    """
    whole = prototypes.clone()
    unit = F.normalize(prototypes, dim=2)
    for space in range(1, len(prototypes)):
        later = tasks >= space
        for own in range(space):
            members = tasks == own
            likeness = (unit[own, members] @ unit[own, later].T).softmax(1)
            whole[space, members] = likeness @ prototypes[space, later]
    return whole


def scores(features: Tensor, prototypes: Tensor, tasks: Tensor, alpha: float) -> Tensor:
    """Cosine in a class's own space, and ``alpha`` times the mean of those in all others.

    Args:
        features: (S, N, F) float.
        prototypes: (S, C, F) float.
        tasks: (C,) int64, each class's own space.
        alpha: weight of the other spaces.

    Returns:
        (N, C).
    """
    spaces = len(features)
    own = F.one_hot(tasks, spaces).T.to(features)
    weights = own + (1 - own) * (alpha / max(spaces - 1, 1))
    near = F.normalize(features, dim=2) @ F.normalize(prototypes, dim=2).mT
    return (near * weights[:, None]).sum(0)


class AdapterSpaces(AdaptedTransformer):
    """A frozen transformer with the adapters of all experiences; those of the newest are the ones that train.

    Attributes:
        earlier: the four tensors of each earlier experience's `AdapterWeights`, frozen, one after another.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.earlier = nn.ParameterList()

    def keep(self) -> None:
        """Set the adapters in training aside, among the earlier ones."""
        self.earlier.extend(nn.Parameter(tensor, requires_grad=False) for tensor in self.weights.copy())

    def spaces(self, images: Tensor) -> Tensor:
        """Features (S, N, F) of images (N, C, H, W) through each experience's adapters."""
        begun, kept = self.begin(images), list(self.earlier)
        adapters = [AdapterWeights(*kept[i : i + 4]) for i in range(0, len(kept), 4)]
        return torch.stack([self.finish(begun, weights) for weights in (*adapters, self.weights)])


@strategies.register(EaseConfig)
class Ease(FineTuneClassifier):
    """The loop over fresh adapters and a head of their own; prototypes are an auxiliary tensor (S, C, F)."""

    config: EaseConfig
    pretrained: ClassVar[bool] = True

    def __init__(self, config: EaseConfig, problem: Problem) -> None:
        super().__init__(config, problem)
        transformer = opened(self.model.backbone)
        self.adapted = self.model.backbone = AdapterSpaces(transformer, config.rank, config.scale, config.dropout)
        self.new: CosineHead | None = None  # over this experience's classes, while it trains

    @classmethod
    def skip(cls, config: EaseConfig, problem: Problem) -> str | None:
        """Adapters go into the blocks of a transformer."""
        return no_transformer(problem.model().backbone)

    @property
    def tasks(self) -> Tensor:
        """Each class's experience, (C,) int64."""
        return self.auxiliary.get("tasks", torch.empty(0, dtype=torch.int64, device=self.problem.device))

    def begin(self, experience: Experience) -> None:
        """Set the last adapters aside and draw fresh ones, and a head."""
        if len(self.tasks):
            self.adapted.keep()
        self.adapted.reset()
        self.new = CosineHead(self.adapted.features_out, len(experience.classes)).to(self.problem.device)

    def parameter_groups(self) -> list[tuple[list[nn.Parameter], float]]:
        """The newest adapters and their head."""
        assert self.new is not None
        return [([*self.adapted.adapters, *self.new.parameters()], 1.0)]

    def loss(self, batch: Batch) -> Tensor:
        """Cross-entropy over the new classes."""
        assert self.new is not None
        logits = self.new(self.model.features(batch)).float()
        return F.cross_entropy(logits, batch["label"] - len(self.tasks))

    @torch.no_grad()
    def end(self, experience: Experience) -> None:
        """Let the head go, take the new classes' prototypes in all spaces and make up the missing ones."""
        self.new = None
        fresh = self._means(experience)
        index = len(self.adapted.earlier) // 4
        self.auxiliary["tasks"] = torch.cat((self.tasks, self.tasks.new_full((fresh.shape[1],), index)))
        old = F.pad(self.auxiliary.get("prototypes", fresh[:-1, :0]), (0, 0, 0, 0, 0, 1))
        self.auxiliary["prototypes"] = completed(torch.cat((old, fresh), dim=1), self.tasks)

    def _means(self, experience: Experience) -> Tensor:
        """Mean features (S, classes, F) of an experience's classes."""
        self.model.eval()
        train, transform = experience.train, self.problem.transform
        batches = (transform.evaluate(b) for b in train.batches(EVALUATION_BATCH))
        features = torch.cat([self.adapted.spaces(batch["image"]) for batch in batches], dim=1)
        labels = train.column("label")
        return torch.stack([features[:, labels == label].mean(1) for label in experience.classes], dim=1)

    @torch.no_grad()
    def predict(self, batch: Batch) -> Tensor:
        """Labels (N,) int64: the largest score; the largest logit where no class in question has prototypes."""
        if not len(self.tasks):
            return super().predict(batch)
        self.model.eval()
        batch = self.problem.transform.evaluate(batch)
        features = self.adapted.spaces(batch["image"])
        found = scores(features, self.auxiliary["prototypes"], self.tasks, self.config.alpha)
        absent = self.model.outputs - found.shape[1]
        near = self.model.masked(F.pad(found, (0, absent), value=float("-inf")), batch)
        logits = self.model.masked(self.model.head(features[-1]), batch)
        return torch.where(near.amax(1) > float("-inf"), near.argmax(1), logits.argmax(1))

    def restore(self, state: dict[str, Any]) -> None:
        """Go on as the strategy whose `state` this is would."""
        kept = int(state["auxiliary"]["tasks"].max()) if "tasks" in state["auxiliary"] else 0
        for _ in range(len(self.adapted.earlier) // 4, kept):
            self.adapted.keep()
        super().restore(state)
