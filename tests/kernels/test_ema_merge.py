from __future__ import annotations

import pytest
import torch
from torch import Tensor

from clbench.errors import ConfigError, IncompatibleError
from clbench.kernels import dispatch
from clbench.kernels.ema_merge import ema_merge_
from tests.kernels.paths import by, fresh, interpreted, needs_gpu, needs_triton

SHAPES = ((64, 80), (64,), (20, 37), (), (1,), (17, 1001), (16384,), (40_000,), (0, 3))


def lists(generator: torch.Generator, device: str = "cpu") -> tuple[list[Tensor], list[Tensor], Tensor]:
    averages, tensors = ([torch.randn(s, generator=generator).to(device) for s in SHAPES] for _ in range(2))
    return averages, tensors, torch.rand(len(SHAPES), generator=generator).to(device)


def mixed(tensors: list[Tensor]) -> list[Tensor]:
    """The tensors, one in bfloat16, the next in float16, the next as it was, and so on."""
    types = (torch.bfloat16, torch.float16, torch.float32)
    return [tensor.to(types[number % 3]) for number, tensor in enumerate(tensors)]


def kernel_is_reference(device: str) -> None:
    """The kernel's bits are the reference's, also when the same tensors are merged again, and when others are."""
    generator = fresh()
    for _ in range(2):
        averages, tensors, weights = lists(generator, device)
        others = [a.clone() for a in averages]
        for scale in (1.0, 0.25):
            by("triton", ema_merge_, averages, tensors, weights * scale)
            by("torch", ema_merge_, others, tensors, weights * scale)
        for one, other in zip(averages, others, strict=True):
            assert torch.equal(one, other)
    averages, tensors, weights = lists(generator, device)
    narrow = mixed(tensors)
    others = [a.clone() for a in averages]
    by("triton", ema_merge_, averages, narrow, weights)
    by("torch", ema_merge_, others, narrow, weights)
    assert all(torch.equal(one, other) for one, other in zip(averages, others, strict=True))
    average, tensor = (torch.randn(5, 3, 4, 4, generator=generator).to(device) for _ in range(2))
    wanted = (average + tensor) / 2
    for order in (torch.contiguous_format, torch.channels_last):
        sides = [t.clone(memory_format=order) for t in (average, tensor)]
        by("triton", ema_merge_, sides[:1], sides[1:], torch.full((1,), 0.5, device=device))
        assert torch.allclose(sides[0], wanted, atol=1e-6)


@needs_triton
def test_the_kernel_gives_the_reference_s_bits_in_the_interpreter() -> None:
    interpreted(__name__, "kernel_is_reference")


@needs_gpu
def test_the_kernel_gives_the_reference_s_bits_on_a_gpu() -> None:
    kernel_is_reference("cuda")


@needs_gpu
def test_the_kernel_writes_to_its_averages_only() -> None:
    flat, weight = torch.randn(5000, device="cuda"), torch.full((1,), 0.5, device="cuda")
    before, tensor = flat.clone(), torch.randn(1001, device="cuda")
    by("triton", ema_merge_, [flat[1000:2001]], [tensor], weight)
    assert torch.equal(flat[:1000], before[:1000])
    assert torch.equal(flat[2001:], before[2001:])
    assert not torch.equal(flat[1000:2001], before[1000:2001])


@needs_gpu
def test_what_the_kernel_cannot_address_takes_the_reference() -> None:
    flat, weight = torch.zeros(5000, device="cuda"), torch.full((1,), 0.5, device="cuda")
    dispatch.begin()
    ema_merge_([flat[1:1001]], [torch.ones(1000, device="cuda")], weight)
    ema_merge_([flat[2000:4000].view(40, 50).T], [torch.ones(50, 40, device="cuda")], weight)
    assert float(flat.sum()) == 1500
    reasons = ["torch: gaps, or another order in memory", "torch: not aligned to 16 bytes"]
    assert dispatch.paths() == {"ema_merge_": reasons}


@needs_gpu
def test_a_captured_graph_follows_its_weights() -> None:
    averages, tensors, weights = lists(fresh(), "cuda")
    others = [a.clone() for a in averages]
    by("triton", ema_merge_, averages, tensors, weights)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        by("triton", ema_merge_, averages, tensors, weights)
    by("torch", ema_merge_, others, tensors, weights)
    weights.mul_(0.5)
    graph.replay()
    by("torch", ema_merge_, others, tensors, weights)
    assert all(torch.equal(one, other) for one, other in zip(averages, others, strict=True))


@pytest.mark.parametrize("one", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_reference_is_the_formula_in_float64(one: bool, dtype: torch.dtype) -> None:
    averages, tensors, weights = lists(fresh())
    averages, tensors = ([t.to(dtype) for t in side] for side in (averages, tensors))
    weight: float | Tensor = 0.3 if one else weights.to(dtype)
    each = [0.3] * len(SHAPES) if one else weights.double().tolist()
    wanted = [a.double() + w * (t.double() - a.double()) for a, t, w in zip(averages, tensors, each, strict=True)]
    ema_merge_(averages, tensors, weight)
    for got, exact in zip(averages, wanted, strict=True):
        assert torch.allclose(got.double(), exact, rtol=0, atol=2e-6)


@pytest.mark.parametrize("one", [True, False])
def test_tensors_of_less_precision_give_what_their_values_give_in_the_averages_precision(one: bool) -> None:
    averages, tensors, weights = lists(fresh())
    others, narrow = [a.clone() for a in averages], mixed(tensors)
    ema_merge_(averages, narrow, 0.01 if one else weights)
    ema_merge_(others, [t.float() for t in narrow], 0.01 if one else weights)
    for average, other in zip(averages, others, strict=True):
        assert average.dtype == torch.float32
        assert torch.equal(average, other)


def test_parameters_that_learn_are_followed_without_a_gradient() -> None:
    average, parameter = torch.zeros(3), torch.nn.Parameter(torch.ones(3))
    ema_merge_([average], [parameter], torch.tensor([0.25]))
    assert average.tolist() == [0.25] * 3
    assert not average.requires_grad


def test_nothing_to_merge_is_no_error() -> None:
    ema_merge_([], [], torch.zeros(0))
    ema_merge_([], [], 0.5)


@needs_triton
def test_another_order_in_memory_is_left_to_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    average, tensor = torch.zeros(2, 3, 4, 4), torch.ones(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    with pytest.raises(IncompatibleError, match="gaps, or another order in memory"):
        by("triton", ema_merge_, [average], [tensor], torch.ones(1))
    ema_merge_([average], [tensor], torch.full((1,), 0.5))
    assert (average == 0.5).all()


@needs_triton
def test_other_types_than_float32_are_left_to_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with pytest.raises(IncompatibleError, match="not float32"):
        by("triton", ema_merge_, [torch.zeros(2).double()], [torch.ones(2).double()], torch.ones(1))


SAME = torch.zeros(3)
BAD = {
    "tensors must be as many as the averages, 1, got 2": ([SAME], [torch.ones(3)] * 2, 0.5),
    "a tensor must be as its average, (3,) float32 on cpu, or less precise, got (4,) float32 on cpu": (
        [SAME],
        [torch.ones(4)],
        0.5,
    ),
    "a tensor must be as its average, (3,) float32 on cpu, or less precise, got (3,) int64 on cpu": (
        [SAME],
        [torch.ones(3).long()],
        0.5,
    ),
    "a tensor must be as its average, (3,) float32 on cpu, or less precise, got (3,) float64 on cpu": (
        [SAME],
        [torch.ones(3).double()],
        0.5,
    ),
    "averages must be floating point, got torch.int64": ([torch.arange(2)], [torch.arange(2)], 0.5),
    "an average must be in memory of its own, got the tensor that it follows": ([SAME], [SAME], 0.5),
    "weight must be (1,), one per tensor, got (2,)": ([SAME], [torch.ones(3)], torch.ones(2)),
}


@pytest.mark.parametrize("said", BAD)
def test_bad_input_is_one_line(said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        ema_merge_(*BAD[said])  # type: ignore[arg-type]
    assert str(raised.value) == f"ema_merge_: {said}"
