"""Direct preference optimisation: learn which of two answers is preferred, on all matrices or half.

Rafailov et al. 2023, arXiv 2305.18290, equation 7. With pi the model, ref the model as it was before the experience, y+
the preferred and y- the rejected answer to a prompt x:

    loss = -log sigmoid( strength * ( log pi(y+|x) / ref(y+|x) - log pi(y-|x) / ref(y-|x) ) )

``ratio=0.5`` is half fine-tuning's second round (Hui et al., arXiv 2404.18466): the policy starts from the tuned model,
a new half is drawn, and the reference is the whole tuned model, frozen. Learns from tables with rejected answers
(``scenario.preferences=true`` on instructions, ``scenario.rejected=FIELD`` on tasks). Log-likelihoods are sums over
the answer's tokens, EOS included.
Certificate: no published number is reproduced yet.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from clbench.errors import IncompatibleError
from clbench.half import Half, HalfConfig
from clbench.models.model import Model
from clbench.scenario import Experience, Modality
from clbench.space import LogUniform, require, searched
from clbench.strategy import Problem, strategies
from clbench.table import Batch
from clbench.texts.tokens import REJECTED, rejected


@dataclass
class DPOConfig(HalfConfig):
    """The shared fields, those of freezing, and the strength."""

    strength: float = searched(0.1, LogUniform(0.01, 1.0))  # beta in the paper: how much a log-ratio weighs

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.strength > 0, "strategy.strength", "> 0", self.strength)


def preference_loss(preferred: Tensor, refused: Tensor, strength: float) -> Tensor:
    """Mean of -log sigmoid(strength * (preferred - refused)), ().

    Args:
        preferred: log-ratios (N,) of model and reference on the preferred answers, in nats.
        refused: likewise on the rejected answers.
        strength: beta > 0.
    """
    return -F.logsigmoid(strength * (preferred - refused)).mean()


@strategies.register(DPOConfig)
class DPO(Half):
    """The loop with the model before the experience as its reference."""

    learns = frozenset({Modality.TEXTS})
    config: DPOConfig

    def __init__(self, config: DPOConfig, problem: Problem) -> None:
        super().__init__(config, problem)
        self.reference: Model | None = None

    def begin(self, experience: Experience) -> None:
        """Copy the reference, then freeze the half.

        Raises:
            IncompatibleError: there are no rejected answers to learn from.
        """
        if REJECTED not in experience.train.source.columns:
            raise IncompatibleError(
                "dpo learns from preferences, and the examples have no rejected answers; add "
                "scenario.preferences=true (instructions), or scenario.rejected=FIELD (tasks)"
            )
        self.reference = copy.deepcopy(self.model).eval().requires_grad_(False)
        super().begin(experience)

    def loss(self, batch: Batch) -> Tensor:
        """The preference loss."""
        other = self.problem.transform.evaluate(rejected(batch))
        return preference_loss(self._ratios(batch), self._ratios(other), self.config.strength)

    def _ratios(self, batch: Batch) -> Tensor:
        assert self.reference is not None
        with torch.no_grad():
            before, _ = self.reference.log_likelihoods(batch)
        now, _ = self.model.log_likelihoods(batch)
        return now - before

    def end(self, experience: Experience) -> None:
        """Let the reference go."""
        super().end(experience)
        self.reference = None
