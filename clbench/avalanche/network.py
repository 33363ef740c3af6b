"""Our classifier as a network that Avalanche can train: images in, logits out, a head that grows with the classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from avalanche.models import DynamicModule, MultiTaskModule
from torch import Tensor, nn

from clbench.freezer import Coder, Freeze
from clbench.models.classifier import Classifier

MASKED = -1000.0
"""Logit of other tasks' classes, as in Avalanche's own heads: differences of -inf would not be numbers."""


def logits(classifier: Classifier, images: Tensor) -> Tensor:
    """Logits (N, outputs); one image alone is normalised as in evaluation, since batch norm cannot train on it.

    Avalanche's loaders do not join a last example that is left alone to the batch before, as ours do.
    """
    if not classifier.training or len(images) > 1:
        return classifier.all_logits({"image": images})
    classifier.eval()
    alone = classifier.all_logits({"image": images})
    classifier.train()
    return alone


class Network(DynamicModule):  # type: ignore[misc]
    """Class-incremental: one head, extended before each experience."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def adaptation(self, experience: Any) -> None:
        """Grow to the experience's classes; never shrink, since old experiences are adapted to as well."""
        self.classifier.grow(max(self.classifier.outputs, *(c + 1 for c in experience.classes_in_this_experience)))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, outputs) of images (N, C, H, W), normalised."""
        return logits(self.classifier, images)


class TaskNetwork(MultiTaskModule):  # type: ignore[misc]
    """Task-incremental: one head with all classes from the start, masked by the task label."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Tensor, task_labels: Tensor | int | None) -> Any:
        """Logits (N, outputs), `MASKED` for other tasks' classes; by task, a dict of them, where no label is given."""
        if task_labels is None:
            return self.forward_all_tasks(images)
        tasks = self.classifier.task_of_class
        assert tasks is not None
        own = torch.as_tensor(task_labels, device=images.device).reshape(-1, 1)
        return logits(self.classifier, images).masked_fill(own != tasks, MASKED)

    def forward_single_task(self, images: Tensor, task_label: int) -> Tensor:
        """Logits (N, outputs) as one task's."""
        own: Tensor = self(images, task_label)
        return own


def network(classifier: Classifier) -> Network | TaskNetwork:
    """The network for a classifier's setting; its weights contiguous, since Avalanche flattens gradients by view."""
    classifier.to(memory_format=torch.contiguous_format)
    return Network(classifier) if classifier.task_of_class is None else TaskNetwork(classifier)


class NetworkCoder(Coder):
    """A network, or a copy of it that a strategy keeps, as its outputs and weights.

    Args:
        model: makes a classifier of the same architecture.
    """

    kind = DynamicModule

    def __init__(self, model: Callable[[], Classifier]) -> None:
        self.model = model

    def freeze(self, value: Any, freeze: Freeze) -> Any:
        """Parameters keep their identity: optimisers hold the same ones.

        Raises:
            TypeError: the network is not one of this module's.
        """
        if type(value) not in (Network, TaskNetwork):
            raise TypeError(f"a network of class {type(value).__name__}")
        tasks = [value.max_class_label, value.known_train_tasks_labels] if isinstance(value, TaskNetwork) else None
        return {
            "outputs": value.classifier.outputs,
            "training": value.training,
            "tasks": freeze(tasks),
            "parameters": freeze(dict(value.named_parameters())),
            "buffers": freeze({n: t for n, t in value.state_dict(keep_vars=True).items() if type(t) is Tensor}),
        }

    def thaw(self, plain: Any, thaw: Freeze) -> Any:
        """A network with the same weights, on their device."""
        classifier = self.model()
        classifier.grow(plain["outputs"])
        made = network(classifier)
        tasks = thaw(plain["tasks"])
        if isinstance(made, TaskNetwork):
            made.max_class_label, made.known_train_tasks_labels = tasks
        for name, parameter in thaw(plain["parameters"]).items():
            owner, _, leaf = name.rpartition(".")
            assert isinstance(made.get_parameter(name), nn.Parameter)
            setattr(made.get_submodule(owner), leaf, parameter)
        made.load_state_dict(thaw(plain["buffers"]), strict=False)
        return made.train(plain["training"])
