import copy

import pytest
import torch
from torch import nn

from clbench.models.head import CosineHead, LinearHead, cosine_logits

HEADS = pytest.mark.parametrize("kind", [LinearHead, CosineHead])


@HEADS
def test_growing_keeps_old_rows_and_their_logits_bit_for_bit(kind: type[LinearHead] | type[CosineHead]) -> None:
    head, features = kind(6, 0), torch.randn(5, 6)
    assert head(features).shape == (5, 0)
    head.grow(3)
    before = copy.deepcopy(head)
    head.grow(7)
    assert head.outputs == 7
    assert head(features).shape == (5, 7)
    # A matrix product rounds by kernels that depend on its size, so bits are compared at the old size.
    old = kind(6, 3)
    old.load_state_dict({key: value[:3] if value.ndim else value for key, value in head.state_dict().items()})
    assert all(torch.equal(a, b) for a, b in zip(old.parameters(), before.parameters(), strict=True))
    assert torch.equal(old(features), before(features))
    torch.testing.assert_close(head(features)[:, :3], before(features))


def test_growing_keeps_old_logits_bit_for_bit_where_sums_are_exact() -> None:
    head, features = LinearHead(6, 3), torch.randint(-9, 9, (5, 6)).float()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randint(-9, 9, parameter.shape))
    logits = head(features)
    head.grow(7)
    assert torch.equal(head(features)[:, :3], logits)


@HEADS
def test_growing_to_the_same_size_changes_nothing(kind: type[LinearHead] | type[CosineHead]) -> None:
    head = kind(4, 3)
    weight = head.weight
    head.grow(3)
    assert head.weight is weight


@HEADS
def test_shrinking_is_refused(kind: type[LinearHead] | type[CosineHead]) -> None:
    with pytest.raises(ValueError, match="a head of 3 outputs cannot shrink to 2"):
        kind(4, 3).grow(2)


@HEADS
def test_growing_keeps_precision_and_device(kind: type[LinearHead] | type[CosineHead]) -> None:
    head = kind(4, 0).to("meta", torch.float64)
    head.grow(3)
    assert {(parameter.dtype, parameter.device.type) for parameter in head.parameters()} == {(torch.float64, "meta")}


@HEADS
def test_new_rows_are_those_of_a_fresh_layer(kind: type[LinearHead] | type[CosineHead]) -> None:
    head = kind(4, 2)
    torch.manual_seed(3)
    head.grow(5)
    torch.manual_seed(3)
    fresh = nn.Linear(4, 3)
    assert torch.equal(head.weight[2:], fresh.weight)
    if isinstance(head, LinearHead):
        assert torch.equal(head.bias[2:], fresh.bias)


def test_a_linear_head_is_a_linear_layer() -> None:
    torch.manual_seed(0)
    head, features = LinearHead(4, 3), torch.randn(5, 4)
    torch.testing.assert_close(head(features), features @ head.weight.T + head.bias)


def test_cosine_logits_do_not_depend_on_lengths() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(5, 4, generator=generator, dtype=torch.float64)
    weight = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    scale = torch.tensor(2.5, dtype=torch.float64)
    expected = [[2.5 * float(torch.dot(f, w) / (f.norm() * w.norm())) for w in weight] for f in features]
    for factor in (1.0, 1e-3, 1e3):
        result = cosine_logits(features * factor, weight * (1 / factor), scale)
        torch.testing.assert_close(result, torch.tensor(expected, dtype=torch.float64))


def test_the_scale_of_a_cosine_head_learns_and_survives_growth() -> None:
    head = CosineHead(4, 2)
    head(torch.randn(3, 4)).square().sum().backward()
    assert head.scale.grad is not None
    assert float(head.scale.grad) > 0
    with torch.no_grad():
        head.scale.fill_(3.0)
    head.grow(4)
    assert head.scale.item() == 3.0
