"""What is asked of torch in every arm alike, through its public hooks, so that no arm is changed to be measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
import workload
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

T = TypeVar("T")


class Probe:
    """Counts optimiser steps, notes when the first one begins, and weighs what the last one left.

    It first takes one step of a network of its own: the first optimiser of a process imports half of torch (about one
    second) and the first convolution sets up its library. Every arm pays that before its clock for training runs.
    """

    def __init__(self) -> None:
        torch.set_num_threads(1)
        _warm_up()
        self.steps, self.start_up_seconds = 0, 0.0
        self._optimizer: torch.optim.Optimizer | None = None
        self._first_forward = nn.modules.module.register_module_forward_pre_hook(self._begun)
        register_optimizer_step_post_hook(self._stepped)

    def _begun(self, *_: Any) -> None:
        self.start_up_seconds = time.process_time()
        self._first_forward.remove()  # torch calls modules faster where no hook is set

    def _stepped(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        self.steps += 1
        self._optimizer = optimizer

    def measure(
        self, experiences: Iterable[T], learn: Callable[[T], Any], test: Callable[[T], float]
    ) -> workload.Result:
        """The arm's result, after it has learnt and tested experience by experience; tests give percent."""
        training = evaluation = accuracy = 0.0
        for experience in experiences:
            begun = time.process_time()
            learn(experience)
            learnt = time.process_time()
            accuracy = test(experience)
            training += learnt - begun
            evaluation += time.process_time() - learnt
        return self.result(training, evaluation, accuracy)

    def result(self, training_seconds: float, evaluation_seconds: float, accuracy: float) -> workload.Result:
        """The arm's result; to be called when all is learnt and tested."""
        assert self._optimizer is not None, "no step was taken"
        parameters = [p for group in self._optimizer.param_groups for p in group["params"]]
        state = [value for entry in self._optimizer.state.values() for value in entry.values()]
        return workload.Result(
            training_seconds=training_seconds,
            evaluation_seconds=evaluation_seconds,
            start_up_seconds=self.start_up_seconds,
            steps=self.steps,
            accuracy=accuracy,
            gradient_bytes=sum(_bytes(p.grad) for p in parameters if p.grad is not None),
            state_bytes=sum(_bytes(value) for value in state if isinstance(value, Tensor)),
        )


def _warm_up() -> None:
    network = nn.Conv2d(3, 4, 3)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, fused=True)
    network(torch.zeros(2, 3, 8, 8)).sum().backward()
    optimizer.step()


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
