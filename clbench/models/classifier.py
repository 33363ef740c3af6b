"""The model that strategies train on images: a backbone and a head that grows."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clbench.models.build import Shape, build_backbone
from clbench.models.config import HeadKind, ModelConfig
from clbench.models.head import CosineHead, Head, LinearHead
from clbench.models.model import Model
from clbench.table import Batch

HEADS: dict[HeadKind, type[LinearHead] | type[CosineHead]] = {
    HeadKind.LINEAR: LinearHead,
    HeadKind.COSINE: CosineHead,
}


def mask_other_tasks(logits: Tensor, task: Tensor, task_of_class: Tensor) -> Tensor:
    """Rule out the classes of other tasks.

    Args:
        logits: (N, C), floating point.
        task: (N,) int64, each example's own task.
        task_of_class: (C,) int64.

    Returns:
        (N, C): -inf where a class does not belong to the example's task, else the logit.
    """
    return logits.masked_fill(task[:, None] != task_of_class[None, :], float("-inf"))


def local_cross_entropy(logits: Tensor, labels: Tensor, classes: slice) -> Tensor:
    """Cross-entropy among the outputs ``classes`` only, mean over the batch, ().

    Args:
        logits: (N, C) float.
        labels: (N,) int64, within ``classes``.
        classes: consecutive outputs.
    """
    return F.cross_entropy(logits[:, classes], labels - classes.start)


class Classifier(Model):
    """Images to class logits.

    Batches hold ``image`` (N, C, H, W), floating point and normalised; ``label`` (N,) int64 for `loss`; ``task`` (N,)
    int64 where the classifier is task-incremental. An optimiser is to be built after `grow`.

    Args:
        backbone: from images to features (N, F).
        head: from features to logits.
        task_of_class: of every class that will come, the task it belongs to: logits of other tasks' classes are -inf
            (task-incremental). None: all classes compete (class-incremental).
    """

    def __init__(self, backbone: nn.Module, head: Head, task_of_class: tuple[int, ...] | None) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        # not a weight: left out of the state, so that a classifier's file also serves as a backbone's checkpoint
        tasks = None if task_of_class is None else torch.tensor(task_of_class, dtype=torch.int64)
        self.register_buffer("task_of_class", tasks, persistent=False)

    @property
    def outputs(self) -> int:
        """Classes it can answer with."""
        return self.head.outputs

    def grow(self, outputs: int) -> None:
        """Extend the head to ``outputs`` classes, leaving the old ones' parameters as they are.

        Old logits stay the same up to the rounding of a larger matrix product.

        Raises:
            ValueError: there are more classes already, or the new ones have no task.
        """
        if self.task_of_class is not None and outputs > len(self.task_of_class):
            raise ValueError(f"{outputs} outputs, but only {len(self.task_of_class)} classes have a task")
        self.head.grow(outputs)

    def features(self, batch: Batch) -> Tensor:
        """Features (N, F) of ``image``; the column ``feature`` where the batch brings it."""
        features: Tensor = batch["feature"] if "feature" in batch else self.backbone(batch["image"])
        return features

    def all_logits(self, batch: Batch) -> Tensor:
        """Logits (N, outputs), float32, of every class, whatever an example's task."""
        logits: Tensor = self.head(self.features(batch)).float()
        return logits

    def masked(self, logits: Tensor, batch: Batch) -> Tensor:
        """`all_logits` with the classes of other tasks ruled out, where the classifier is task-incremental."""
        if self.task_of_class is None:
            return logits
        return mask_other_tasks(logits, batch["task"], self.task_of_class[: self.outputs])

    def logits(self, batch: Batch) -> Tensor:
        """Logits (N, outputs), float32, of the classes that can be the answer; -inf elsewhere."""
        return self.masked(self.all_logits(batch), batch)

    def cross_entropy(self, logits: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy of `all_logits` with ``label``, mean over the batch, ()."""
        return F.cross_entropy(self.masked(logits, batch), batch["label"])

    def new_cross_entropy(self, logits: Tensor, batch: Batch, old: int) -> Tensor:
        """As `cross_entropy`, among the classes from ``old`` on."""
        return local_cross_entropy(self.masked(logits, batch), batch["label"], slice(old, None))

    def old_groups(self, old: int) -> list[slice]:
        """The first ``old`` classes: together, or those of each experience where examples tell theirs."""
        if self.task_of_class is None:
            return [slice(0, old)]
        tasks = self.task_of_class[:old].tolist()
        starts = [i for i, task in enumerate(tasks) if i == 0 or tasks[i - 1] != task]
        return [slice(a, b) for a, b in zip(starts, [*starts[1:], old], strict=True)]

    def predict(self, batch: Batch) -> Tensor:
        """The class with the largest logit, (N,) int64; without gradients, in the mode the model is in."""
        with torch.no_grad():
            return self.logits(batch).argmax(1)


def build_classifier(
    config: ModelConfig, shape: Shape, default_model: str, task_of_class: tuple[int, ...] | None = None
) -> Classifier:
    """A classifier without outputs yet: call `Classifier.grow` before the first batch.

    Args:
        config: backbone, weights and head.
        shape: of one image, (C, H, W).
        default_model: the backbone where the config names none.
        task_of_class: see `Classifier`.

    Raises:
        ClbenchError: see `clbench.models.build.build_backbone`.
    """
    backbone = build_backbone(config, shape, default_model)
    head = HEADS[config.head](cast(int, backbone.features_out), 0)
    # Convolutions are quicker with the channels last, on processors and on GPUs; images come that way as well.
    return Classifier(backbone, head, task_of_class).to(memory_format=torch.channels_last)
