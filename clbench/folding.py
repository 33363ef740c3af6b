"""Adapters that become a part of the weights when an experience has been learnt; the next one begins with new ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from clbench.finetune import FineTune, FineTuneConfig
from clbench.models.low_rank import adapters, base, fold, no_single_set
from clbench.scenario import Experience, Modality
from clbench.strategy import Problem


@dataclass
class FoldingConfig(FineTuneConfig):
    """The shared fields."""


class Folding(FineTune):
    """The loop on adapters that are folded into the weights after each experience."""

    low_rank = True
    learns = frozenset({Modality.TEXTS})
    config: FoldingConfig

    @classmethod
    def skip(cls, config: FoldingConfig, problem: Problem) -> str | None:
        """It needs one set of adapters."""
        return no_single_set(problem.model())

    def end(self, experience: Experience) -> None:
        """Fold."""
        for layer in adapters(self.model).values():
            fold(layer)

    def state(self) -> dict[str, Any]:
        """The loop's state, and the weights that were folded into."""
        folded = {name: base(layer).detach() for name, layer in adapters(self.model).items()}
        return {**super().state(), "folded": folded}

    @torch.no_grad()
    def restore(self, state: dict[str, Any]) -> None:
        """Go on as the strategy whose `state` this is would."""
        super().restore(state)
        for name, layer in adapters(self.model).items():
            base(layer).copy_(state["folded"][name])
