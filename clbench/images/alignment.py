"""Classifier alignment: train the head again on samples of the class Gaussians, so that old classes are heard."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from clbench.errors import DivergedError
from clbench.images.gaussians import ClassGaussians
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
        head: changed in place; outputs beyond the C classes are left out of the loss and keep their bits.
        gaussians: of the C classes.
        epochs: how often.
        lr: in the first epoch.
        samples: per class and epoch, and per step.
        weight_decay: L2 penalty.
        generator: of samples and shuffles.
        mean: (C, F), in place of the classes' own.
        loss: of logits (samples, C) and labels (samples,).

    Raises:
        DivergedError: a weight is no longer finite.
    """
    # Rows of their own, and not the head's: weight decay would reach the outputs beyond.
    classes = len(gaussians)
    weight, bias = (p[:classes].detach().clone().requires_grad_() for p in (head.weight, head.bias))
    optimizer = torch.optim.SGD([weight, bias], lr=lr, momentum=0.9, weight_decay=weight_decay, fused=True)
    for epoch in range(epochs):
        optimizer.param_groups[0]["lr"] = lr * (1 + math.cos(math.pi * epoch / epochs)) / 2
        features, labels = gaussians.draw(samples, generator, mean)
        order = torch.randperm(len(labels), generator=generator, device=generator.device).to(labels.device)
        for rows in order.split(samples):
            optimizer.zero_grad()
            loss(F.linear(features[rows], weight, bias), labels[rows]).backward()
            optimizer.step()
    if not (weight.isfinite().all() and bias.isfinite().all()):
        raise DivergedError(f"a weight of the head is no longer finite after its alignment over {classes} classes")
    head.weight.data[:classes], head.bias.data[:classes] = weight.detach(), bias.detach()
