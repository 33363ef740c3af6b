"""Class prototypes: means of features, and the class whose mean has the smallest angle to an example."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from clbench.models.classifier import mask_other_tasks
from clbench.table import Batch


def class_means(features: Tensor, labels: Tensor, classes: Sequence[int]) -> Tensor:
    """Mean of the features of each class.

    Args:
        features: (N, F) float.
        labels: (N,) int64.
        classes: labels, one for each row of the result.

    Returns:
        (len(classes), F); zeros for a class without an example.
    """
    # Class by class, so that a mean's bits depend on its own examples only, not on the classes it arrives with.
    members = (features[labels == label] for label in classes)
    return torch.stack([rows.sum(0) / max(len(rows), 1) for rows in members])


def cosines(features: Tensor, means: Tensor) -> Tensor:
    """Cosine of the angle between each example and each class mean.

    Args:
        features: (N, F) float.
        means: (C, F) float, of any length, or zeros where a class has none.

    Returns:
        (N, C); -inf for a class without a mean.
    """
    return (F.normalize(features, dim=1) @ F.normalize(means, dim=1).T).masked_fill(~means.any(1), float("-inf"))


def best(scores: Tensor, batch: Batch, task_of_class: Tensor | None) -> Tensor:
    """The class with the largest score; of those of the example's own task where tasks are told.

    Args:
        scores: (N, C) float, of the classes learnt so far; -inf where there is nothing to go by.
        batch: with the column ``task`` (N,) int64 where ``task_of_class`` is given.
        task_of_class: of every class that will come, its task; None where all classes compete.

    Returns:
        (N,) int64. The first class of an example's task where none of them has a score.
    """
    if task_of_class is None:
        return scores.argmax(1)
    scores = F.pad(scores, (0, len(task_of_class) - scores.shape[1]), value=float("-inf"))
    scores = scores.clamp_min(torch.finfo(scores.dtype).min)  # a class without a score still beats one of another task
    return mask_other_tasks(scores, batch["task"], task_of_class).argmax(1)
