from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from clbench.errors import DivergedError
from clbench.images.alignment import align
from clbench.images.gaussians import ClassGaussians, Covariance
from clbench.models.head import LinearHead

SETTINGS: dict[str, Any] = {"epochs": 3, "lr": 0.2, "samples": 7, "weight_decay": 0.01}


def gaussians(kind: Covariance = Covariance.FULL) -> ClassGaussians:
    draws, found = torch.Generator().manual_seed(0), ClassGaussians(kind)
    for label in range(3):
        found.add(torch.randn(9, 4, generator=draws, dtype=torch.float64) + label)
    return found


def by_hand(
    head: LinearHead, kind: Covariance, temperature: float, mean: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The same steps with derivatives written out: of the cross-entropy at logits z / T, (softmax(z / T) - y) / T."""
    draws, classes = torch.Generator().manual_seed(5), gaussians(kind)
    values = torch.cat((head.weight, head.bias[:, None]), 1).detach().clone()[:3]
    velocity = torch.zeros_like(values)
    for epoch in range(3):
        features, labels = classes.draw(7, draws, mean)
        order = torch.randperm(21, generator=draws)
        for batch in range(3):
            slope = torch.zeros_like(values)
            for i in order[7 * batch : 7 * batch + 7].tolist():
                x = torch.cat((features[i], torch.ones(1, dtype=torch.float64)))
                exponentials = [math.exp(float(values[c] @ x) / temperature) for c in range(3)]
                for c in range(3):
                    slope[c] += (exponentials[c] / sum(exponentials) - float(c == labels[i])) * x / temperature / 7
            velocity = 0.9 * velocity + slope + 0.01 * values
            values = values - 0.2 * (0.5 + 0.5 * math.cos(math.pi * epoch / 3)) * velocity
    return values[:, :4], values[:, 4]


@pytest.mark.parametrize("kind", Covariance)
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_it_is_stochastic_gradient_descent_written_out(kind: Covariance, temperature: float) -> None:
    torch.manual_seed(0)
    head = LinearHead(4, 5).double()
    mean = None if temperature == 1.0 else gaussians().mean.flip(0)
    weight, bias = by_hand(head, kind, temperature, mean)
    others = head.weight[3:].detach().clone(), head.bias[3:].detach().clone()
    own = {} if temperature == 1.0 else {"loss": lambda z, labels: F.cross_entropy(z / temperature, labels)}
    draws = torch.Generator().manual_seed(5)
    with torch.no_grad():  # as after an experience
        align(head, gaussians(kind), generator=draws, mean=mean, **SETTINGS | own)
    assert torch.allclose(head.weight[:3], weight, atol=1e-12)
    assert torch.allclose(head.bias[:3], bias, atol=1e-12)
    assert torch.equal(head.weight[3:], others[0])
    assert torch.equal(head.bias[3:], others[1])
    assert head.weight.requires_grad
    assert head.weight.grad is None


def test_a_head_that_prefers_one_class_learns_to_tell_them_apart() -> None:
    classes, head = ClassGaussians(Covariance.FULL), LinearHead(4, 3)
    centres = 3 * torch.eye(4)[:3]
    for centre in centres:
        classes.add(centre[None])
    with torch.no_grad():
        head.bias.copy_(torch.tensor([0.0, 0.0, 50.0]))
    assert head(centres).argmax(1).tolist() == [2, 2, 2]
    draws = torch.Generator().manual_seed(0)
    align(head, classes, epochs=40, lr=0.5, samples=16, weight_decay=0.0, generator=draws)
    assert head(centres).argmax(1).tolist() == [0, 1, 2]


def test_without_epochs_the_head_keeps_its_bits() -> None:
    head = LinearHead(4, 3).double()
    before = head.weight.detach().clone()
    align(head, gaussians(), generator=torch.Generator(), **SETTINGS | {"epochs": 0})
    assert torch.equal(head.weight, before)


def test_a_head_that_is_no_longer_finite_is_said_to_have_diverged() -> None:
    with pytest.raises(DivergedError, match="after its alignment over 3 classes"):
        align(LinearHead(4, 3).double(), gaussians(), generator=torch.Generator(), **SETTINGS | {"lr": 1e300})
