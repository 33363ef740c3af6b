"""The adapters' workload: EASE's settings, and its network as one module for the arms outside clbench.

An embedded vision transformer of 0.8 million parameters stays frozen; each experience trains fresh adapters of rank 64
and a cosine head for two epochs, then takes class means through all adapters so far (`clbench.strategies.ease`, whose
modules and functions these are, so that the arithmetic is the same). Images and experiences are those of replay, with
100 training and 20 test images of each class.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
import workload
from torch import Tensor, nn

from clbench.models.head import CosineHead
from clbench.models.pretrained_vit import PretrainedViT
from clbench.strategies.ease import AdapterSpaces, completed, scores

EPOCHS, BATCH = 2, 48
RANK, SCALE, DROPOUT, ALPHA = 64, 0.1, 0.1, 0.1
OPTIMIZER: dict[str, Any] = {"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4}


class Ease(nn.Module):
    """From images (N, 3, 32, 32) to logits (N, classes): the new classes' in training, the seen ones' scores after."""

    def __init__(self) -> None:
        super().__init__()
        self.spaces = AdapterSpaces(PretrainedViT((3, 32, 32)), RANK, SCALE, DROPOUT)
        self.head = CosineHead(self.spaces.features_out, 0)
        self.tasks = torch.empty(0, dtype=torch.int64)
        self.prototypes = torch.empty(0, 0, self.spaces.features_out)

    def begin(self) -> torch.optim.Optimizer:
        """Fresh adapters and a fresh head; the optimiser that trains them."""
        if len(self.tasks):
            self.spaces.keep()
        self.spaces.reset()
        self.head = CosineHead(self.spaces.features_out, workload.CLASSES_EACH)
        return torch.optim.SGD([*self.spaces.adapters, *self.head.parameters()], **OPTIMIZER, fused=True)

    def forward(self, images: Tensor) -> Tensor:
        """Logits over all classes; -inf where a class is none of those in question."""
        if self.training:
            found, first = self.head(self.spaces(images)), len(self.tasks)
        else:
            found, first = scores(self.spaces.spaces(images), self.prototypes, self.tasks, ALPHA), 0
        behind = workload.CLASSES - first - found.shape[1]
        return F.pad(found, (first, behind), value=float("-inf"))

    @torch.no_grad()
    def end(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Take the means of the new classes from batches of images and labels, not augmented."""
        self.eval()
        parts = [(self.spaces.spaces(images), labels) for images, labels in batches]
        features, labels = torch.cat([f for f, _ in parts], dim=1), torch.cat([y for _, y in parts])
        first, spaces = len(self.tasks), len(features)
        new = range(first, first + workload.CLASSES_EACH)
        fresh = torch.stack([features[:, labels == label].mean(1) for label in new], dim=1)
        self.tasks = torch.cat((self.tasks, torch.full((len(new),), spaces - 1)))
        old = F.pad(self.prototypes, (0, 0, 0, 0, 0, 1))
        self.prototypes = completed(torch.cat((old, fresh), dim=1), self.tasks)
