"""EASE in Avalanche's hands: its Naive template, with the two hooks that begin and end an experience.

python benchmarks/adapters_avalanche.py adapters FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import adapters
import torch
import workload
from avalanche.training.supervised import Naive
from avalanche_images import carry_out


class Ease(Naive):  # type: ignore[misc]
    """Fresh adapters and a fresh head before each experience, class means after it."""

    optimized_param_id: dict[str, Any] | None

    def make_optimizer(self, **_: Any) -> None:
        """Called before each experience; a mapping of parameters is what its templates take for one already made."""
        self.optimizer, self.optimized_param_id = self.model.begin(), {}

    def _after_training_exp(self, **kwargs: Any) -> None:
        super()._after_training_exp(**kwargs)
        images = torch.utils.data.DataLoader(self.experience.dataset.eval(), workload.EVALUATION_BATCH)
        self.model.end((batch[0], batch[1]) for batch in images)


def strategy() -> Ease:
    """With Avalanche's default evaluator."""
    network = adapters.Ease()
    return Ease(
        model=network,
        optimizer=torch.optim.SGD(network.spaces.adapters, **adapters.OPTIMIZER),
        criterion=torch.nn.CrossEntropyLoss(),
        train_mb_size=adapters.BATCH,
        train_epochs=adapters.EPOCHS,
        eval_mb_size=workload.EVALUATION_BATCH,
    )


if __name__ == "__main__":
    carry_out(Path(sys.argv[2]), strategy)
