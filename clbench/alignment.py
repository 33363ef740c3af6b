"""Classifier alignment: train the head again on samples of the class Gaussians, so that old classes are heard."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from clbench.gaussians import ClassGaussians
from clbench.models.head import LinearHead


@torch.enable_grad()
def align(
    head: LinearHead,
    gaussians: ClassGaussians,
    epochs: int,
    lr: float,
    samples: int,
    weight_decay: float,
    generator: torch.Generator,
    mean: Tensor | None = None,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
) -> None:
    """Train a head on Gaussian features: SGD with momentum 0.9, lr falling as a cosine with each epoch.

    Each epoch draws ``samples`` features of each of the C classes, shuffles them and takes C steps of ``samples`` each
    (Zhang et al. 2023, SLCA, arXiv 2303.05118, section 3.3).

    Args:
        head: changed in place; outputs beyond the C classes are left out of the loss.
        gaussians: of the C classes.
        epochs: how often.
        lr: in the first epoch.
        samples: per class and epoch, and per step.
        weight_decay: L2 penalty.
        generator: of samples and shuffles.
        mean: (C, F), in place of the classes' own.
        loss: of logits (samples, C) and labels (samples,).
    """
    parameters = [p for p in head.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=lr, momentum=0.9, weight_decay=weight_decay)
    for epoch in range(epochs):
        optimizer.param_groups[0]["lr"] = lr * (1 + math.cos(math.pi * epoch / epochs)) / 2
        features, labels = gaussians.draw(samples, generator, mean)
        order = torch.randperm(len(labels), generator=generator, device=generator.device).to(labels.device)
        for rows in order.split(samples):
            optimizer.zero_grad()
            loss(head(features[rows])[:, : len(gaussians)], labels[rows]).backward()
            optimizer.step()
