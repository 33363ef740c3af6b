from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from clbench.errors import ConfigError
from clbench.kernels.draws import Draws, Given, Order, Seeded, drawn
from clbench.kernels.replay_gather import Replayed, replay_gather
from tests.kernels.paths import by, fresh, interpreted, needs_gpu, needs_triton

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


def stored(count: int, shape: tuple[int, int, int], generator: torch.Generator) -> Tensor:
    return torch.randint(0, 256, (count, *shape), generator=generator, dtype=torch.uint8)


def literally(store: Tensor, given: Given, padding: int) -> Tensor:
    """Image by image in float64: pad, cut the window, mirror it, normalise."""
    index = torch.arange(len(store)) if given.rows is None else given.rows.cpu()
    images = []
    for b, row in enumerate(index.tolist()):
        image = F.pad(store[row].double().cpu(), (padding,) * 4)
        down, right = (padding, padding) if given.offsets is None else given.offsets[:, b].tolist()
        image = image[:, down : down + store.shape[2], right : right + store.shape[3]]
        images.append(image.flip(2) if given.mirrored is not None and given.mirrored[b] else image)
    channels = store.shape[1]
    mean, std = (torch.tensor(of[:channels], dtype=torch.float64).view(-1, 1, 1) for of in (MEAN, STD))
    return (torch.stack(images) / 255 - mean) / std


def gathered(store: Tensor, draws: Draws, padding: int = 2, **asked: Any) -> Replayed:
    channels = store.shape[1]
    return replay_gather(store, draws, mean=MEAN[:channels], std=STD[:channels], padding=padding, **asked)


def requests(count: int, padding: int, generator: torch.Generator) -> list[Draws]:
    """Draws of every kind, of five images; a step and a seed that need both of their words."""
    index, rows = torch.randint(count, (5,), generator=generator), torch.randperm(count, generator=generator)[:7]
    offsets = torch.randint(2 * padding + 1, (2, 5), generator=generator)
    mirrored = torch.rand(5, generator=generator) < 0.5
    seed = int(torch.randint(2**62, (), generator=generator))
    return [
        Given(index, offsets, mirrored),
        Given(index, offsets[:, [0] * 5], None),
        Given(index.flip(0), None, mirrored),
        Seeded(5, seed, 2**33 + 5),
        Seeded(5, 3, 9, flip=False, order=Order.EPOCH, pool=rows),
        Seeded(5, seed, torch.tensor([2**32 + 1]), order=Order.EPOCH),
        Seeded(1, seed, 0, pool=rows),
    ]


def on(draws: Draws, device: str) -> Draws:
    there: list[Any] = [d.to(device) if isinstance(d, Tensor) else d for d in draws]
    return type(draws)(*there)


def same(one: Tensor | None, other: Tensor | None) -> bool:
    return one is not None and other is not None and torch.equal(one.cpu(), other.cpu())


def kernel_is_reference(device: str) -> None:
    """The kernel's bits are the reference's, in every layout, for every kind of draws."""
    generator = fresh()
    for shape, last, stored_last in (((3, 9, 13), True, False), ((1, 8, 8), False, False), ((3, 20, 24), False, True)):
        store = stored(11, shape, generator).to(device)
        if stored_last:
            store = store.contiguous(memory_format=torch.channels_last)
        labels, logits = torch.arange(11, device=device), torch.randn(11, 1030, generator=generator).to(device)
        for draws in requests(11, 2, generator):
            asked: dict[str, Any] = {"labels": labels, "logits": logits, "channels_last": last}
            made, wanted = (by(p, gathered, store, on(draws, device), **asked) for p in ("triton", "torch"))
            for name, one, other in zip(Replayed._fields, made, wanted, strict=True):
                assert same(one, other), (name, shape, draws)
            assert made.images.stride() == wanted.images.stride()
            assert same(wanted.labels, wanted.rows)


def halves_are_rounded_floats(device: str) -> None:
    """In the interpreter to one place in the last, since it cuts float32 off where a GPU rounds."""
    store = stored(4, (3, 9, 13), fresh()).to(device)
    for dtype in (torch.bfloat16, torch.float16):
        draws = Seeded(4, 1, 2)
        half = by("triton", gathered, store, draws, dtype=dtype).images
        whole = by("torch", gathered, store, draws).images
        if device == "cpu":
            assert ((half.double() - whole.double()).abs() <= whole.double().abs() * torch.finfo(dtype).eps).all()
        else:
            assert torch.equal(half, whole.to(dtype))


def in_the_interpreter(device: str) -> None:
    kernel_is_reference(device)
    halves_are_rounded_floats(device)


@needs_triton
def test_the_kernel_gives_the_reference_s_bits_in_the_interpreter() -> None:
    interpreted(__name__, "in_the_interpreter")


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("number", range(7))
def test_the_reference_is_the_formula_in_float64(number: int, last: bool) -> None:
    generator = fresh()
    store, labels, logits = stored(11, (3, 9, 13), generator), torch.arange(11), torch.randn(11, 4)
    draws = requests(11, 2, generator)[number]
    given = draws if isinstance(draws, Given) else drawn(draws, 11, 2)
    made = gathered(store, draws, labels=labels, logits=logits, channels_last=last)
    assert (made.images.double() - literally(store, given, 2)).abs().max() < 2**-21 / min(STD)
    assert made.images.is_contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    assert made.labels is not None
    assert made.logits is not None
    assert torch.equal(made.labels, labels[given.rows])
    assert torch.equal(made.logits, logits[given.rows])


def test_all_rows_in_their_order_need_no_index() -> None:
    store = stored(3, (1, 5, 5), fresh())
    made = gathered(store, Given(), labels=torch.arange(3))
    assert made.rows is None
    assert made.labels is not None
    assert made.labels.tolist() == [0, 1, 2]
    assert (made.images.double() - literally(store, Given(), 0)).abs().max() < 2**-21 / min(STD)


def test_a_pass_shows_every_row_once_and_each_pass_differs() -> None:
    rows = torch.tensor([3, 1, 4, 15, 9, 2, 6])
    seen = [int(drawn(Seeded(1, 7, step, order=Order.EPOCH, pool=rows), 20, 0).rows) for step in range(14)]  # type: ignore[arg-type]
    assert sorted(seen[:7]) == sorted(seen[7:]) == sorted(rows.tolist())
    assert seen[:7] != seen[7:]


def test_seeded_draws_are_uniform_and_independent() -> None:
    given = drawn(Seeded(45_000, int(torch.randint(2**62, (), generator=fresh())), 3), 5, 1)
    assert given.rows is not None
    assert given.offsets is not None
    assert given.mirrored is not None
    cells = ((given.rows * 3 + given.offsets[0]) * 3 + given.offsets[1]) * 2 + given.mirrored
    counts = np.bincount(cells.numpy(), minlength=90)
    assert ((counts - 500) ** 2 / 500).sum() < 89 + 6 * 178**0.5  # 6 sigma of chi-square


def test_other_seeds_and_steps_draw_otherwise() -> None:
    drawings = [drawn(Seeded(8, seed, step), 1000, 4).rows for seed, step in product((1, 2**40 + 1), (1, 2**32 + 1))]
    assert len({tuple(index.tolist()) for index in drawings if index is not None}) == 4


BAD: dict[str, dict[str, Any]] = {
    "the store must be (N, C, H, W) uint8, got (2, 3, 4, 4) float32": {"store": torch.zeros(2, 3, 4, 4)},
    "mean and std must be 3 numbers each, got 1 and 3": {"mean": (0.5,)},
    "std must be other than 0, got (1.0, 0.0, 1.0)": {"std": (1.0, 0.0, 1.0)},
    "padding must be >= 0, got -1": {"padding": -1},
    "dtype must be float32, bfloat16 or float16, got torch.float64": {"dtype": torch.float64},
    "labels must be 1-dimensional with a row per image, got (3,) int64": {"labels": torch.arange(3)},
    "logits must be 2-dimensional with a row per image, got (2,) float32": {"logits": torch.zeros(2)},
    "draws must be as many as the images of the batch, got [1, 2]": {"draws": Given(mirrored=torch.ones(1).bool())},
    "batch must be >= 1, got 0": {"draws": Seeded(0, 1, 1)},
    "seed must be in [0, 2^63), got -1": {"draws": Seeded(1, -1, 1)},
    "rows to draw from must be at least one and below 2^31, got 0": {"draws": Seeded(1, 1, 1, pool=torch.arange(0))},
}


@pytest.mark.parametrize("said", BAD)
def test_bad_input_is_one_line(said: str) -> None:
    right: dict[str, Any] = {
        "store": torch.zeros(2, 3, 4, 4).byte(),
        "draws": Given(),
        "mean": (0.0,) * 3,
        "std": (1.0,) * 3,
    }
    with pytest.raises(ConfigError) as raised:
        replay_gather(**right | BAD[said])
    assert str(raised.value) == f"replay_gather: {said}"


@needs_gpu
def test_the_kernel_gives_the_reference_s_bits_on_a_gpu() -> None:
    kernel_is_reference("cuda")
    halves_are_rounded_floats("cuda")


@needs_gpu
def test_seeded_draws_are_the_same_integers_on_a_gpu() -> None:
    store = stored(50, (3, 8, 8), fresh())
    for draws in requests(50, 2, fresh()):
        there = by("triton", gathered, store.cuda(), on(draws, "cuda"))
        here = gathered(store, draws)
        assert same(there.rows, here.rows)
        assert same(there.images, here.images)


@needs_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_every_grey_value_of_every_channel_is_normalised_to_the_reference_s_bits(dtype: torch.dtype) -> None:
    store = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16).cuda()
    made, wanted = (by(p, gathered, store, Given(), dtype=dtype).images for p in ("triton", "torch"))
    assert torch.equal(made, wanted)


@needs_gpu
def test_the_kernel_writes_nothing_beside_its_output() -> None:
    """Freed blocks are handed out again: what lay around the output still lies there."""
    store = stored(9, (3, 7, 11), fresh()).cuda()
    around = [torch.full((4096,), 7, dtype=torch.uint8, device="cuda") for _ in range(64)]
    del around[::2]
    kept = [by("triton", gathered, store, Seeded(3, 1, step)) for step in range(20)]
    assert len(kept) == 20
    assert all(bool((guard == 7).all()) for guard in around)


@needs_gpu
def test_nothing_that_was_not_written_is_handed_out() -> None:
    store = stored(9, (3, 7, 11), fresh()).cuda()
    torch.use_deterministic_algorithms(True)
    try:  # torch then fills fresh memory with NaN
        made = by("triton", gathered, store, Seeded(5, 1, 2))
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.isfinite(made.images).all()


@needs_gpu
def test_a_captured_graph_draws_anew_as_its_step_moves() -> None:
    store, step = stored(50, (3, 8, 8), fresh()).cuda(), torch.zeros(1, dtype=torch.int64, device="cuda")
    by("triton", gathered, store, Seeded(16, 5, step))
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        made = by("triton", gathered, store, Seeded(16, 5, step))
    for number in (3, 2**32 + 7):
        step.fill_(number)
        graph.replay()
        wanted = gathered(store.cpu(), Seeded(16, 5, number))
        assert same(made.images, wanted.images)


@needs_gpu
def test_two_runs_give_the_same_bits() -> None:
    store = stored(50, (3, 32, 32), fresh()).cuda()
    one, other = (by("triton", gathered, store, Seeded(128, 5, 9), dtype=torch.bfloat16) for _ in range(2))
    assert torch.equal(one.images, other.images)
