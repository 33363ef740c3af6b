"""Strategies: what learns a stream."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from clbench.augment import Transform
from clbench.models.model import Model
from clbench.parallel import Peers, Sharding
from clbench.record import Setting
from clbench.registry import Registry
from clbench.scenario import Experience, Modality, Stream
from clbench.table import Batch, Table


@dataclass(frozen=True)
class Problem:
    """What a strategy is told before the first experience: nothing of what it is to learn.

    Attributes:
        model: makes a model on the device, freshly initialised or with the weights that the run starts from; of
            classes, with all outputs where the setting is task-incremental, with none yet where it is
            class-incremental.
        transform: from stored examples to the model's input.
        setting: whether test examples come with their experience.
        device: where tensors live.
        seed: of everything that the strategy draws.
        pretrained: whether the model begins with weights that were trained before.
        peers: processes that learn the same beside this one.
        reference: texts that are no part of what is learnt or measured, see `clbench.scenario.Stream`.
    """

    model: Callable[[], Model]
    transform: Transform
    setting: Setting
    device: torch.device
    seed: int
    pretrained: bool = False
    peers: Peers = field(default_factory=Peers)
    reference: Table | None = None

    @property
    def first_with_past(self) -> int:
        """Index of the first experience before which the model has learnt something: 0 where pre-trained, else 1."""
        return 0 if self.pretrained else 1


class Strategy(ABC):
    """One method of learning experiences one after another.

    The engine calls `learn` once per experience, which is the only time that counts as the strategy's, then `predict`
    on held-out examples, then `state`. It seeds the global random state around each of these calls and restores it.
    """

    version: ClassVar[int] = 1
    """Raised when the same config and seed come to give another result; a part of every run's identity."""

    pretrained: ClassVar[bool] = False
    """Whether it starts from a pre-trained model where the user names none."""

    low_rank: ClassVar[bool] = False
    """Whether it trains low-rank adapters on a frozen language model, of rank 8 where the user names none."""

    learns: ClassVar[frozenset[Modality]] = frozenset({Modality.IMAGES})
    """What its examples may be."""

    spreads: ClassVar[frozenset[Sharding]] = frozenset()
    """How several devices can learn together: `clbench.parallel` says what its loss must be, and with `Sharding.FULL`
    it looks at no parameter or gradient between the first and the last step of an experience."""

    def __init__(self, config: Any, problem: Problem) -> None:
        self.config, self.problem = config, problem

    @classmethod
    def reads(cls, config: Any) -> frozenset[str]:
        """Columns it learns and predicts from: ``image`` and, of the backbone as it comes, frozen, ``feature``.

        Features (N, F) float32 are computed once for all runs and kept on disk (`clbench.images.features`).
        """
        return frozenset({"image"})

    @classmethod
    def access(cls, config: Any) -> str:
        """What it sees of past experiences while it learns one, for tables."""
        return "no replay"

    @classmethod
    def skip(cls, config: Any, problem: Problem) -> str | None:
        """Why this strategy cannot take this problem, in one clause; None where it can."""
        return None

    @abstractmethod
    def learn(self, experience: Experience) -> None:
        """Learn one experience.

        Raises:
            DivergedError: the loss is no longer finite.
        """

    @abstractmethod
    def predict(self, batch: Batch) -> Tensor:
        """Labels (N,) int64, or answers as token ids (N, A) int64, to what `clbench.texts.answers` shows of a batch."""

    def log_likelihoods(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Log-likelihood (N,) of each text's answer, in nats, and its number of tokens (N,); asked of texts only."""
        raise NotImplementedError(f"{type(self).__name__} gives no likelihoods")

    def token_matches(self, batch: Batch) -> Tensor:
        """Share (N,) of each answer's tokens, EOS aside, that are the likeliest after the right ones before them.

        Asked of edits only.
        """
        raise NotImplementedError(f"{type(self).__name__} gives no likelihoods")

    @abstractmethod
    def stored_bytes(self) -> int:
        """Bytes kept for later experiences beside the model: exemplars and auxiliary tensors."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Everything that later experiences depend on: tensors, numbers, strings, and dicts and lists of them."""

    @abstractmethod
    def restore(self, state: dict[str, Any]) -> None:
        """Go on as the strategy whose `state` this is would."""

    @abstractmethod
    def parameters(self) -> tuple[int, int]:
        """Numbers of parameters (all, those that the last experience trained)."""

    def notes(self) -> dict[str, Any]:
        """What the record should keep of the experience just learnt, as JSON values."""
        return {}

    @classmethod
    def workload(cls, stream: Stream) -> int:
        """Training examples that one epoch over the whole stream visits; for estimates of time."""
        return sum(len(e.train) for e in stream.experiences)


strategies: Registry[Strategy] = Registry("strategy", "clbench.strategies")
