from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from clbench.errors import ConfigError, IncompatibleError
from clbench.images.crops import random_boxes
from clbench.kernels.replay_rrc import replay_rrc
from tests.kernels.paths import by, fresh, interpreted, needs_gpu, needs_triton

GREY: dict[str, Any] = {"mean": (0.0,) * 3, "std": (1 / 255,) * 3}
"""A normalisation that leaves grey values as they are."""


def setting(shape: tuple[int, int], generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A store of six images, four rows of it, their boxes and mirrorings."""
    store = torch.randint(0, 256, (6, 3, *shape), generator=generator, dtype=torch.uint8)
    boxes = random_boxes(4, *shape, (0.05, 1.0), (3 / 4, 4 / 3), generator).float()
    return store, torch.tensor([5, 0, 0, 2]), boxes, torch.rand(4, generator=generator) < 0.5


def literally(store: Tensor, index: Tensor, boxes: Tensor, mirrored: Tensor, size: int) -> Tensor:
    """Crop by crop in float64, by torch's own bilinear interpolation, not rounded."""
    crops = []
    for row, box, turn in zip(index.tolist(), boxes.T.long().tolist(), mirrored.tolist(), strict=True):
        top, left, tall, wide = box
        image = store[row].flip(2) if turn else store[row]
        cut = image[None, :, top : top + tall, left : left + wide].double()
        crops.append(F.interpolate(cut, (size, size), mode="bilinear", align_corners=False)[0])
    return torch.stack(crops)


SHAPES = (((32, 32), 56), ((20, 31), 40), ((13, 7), 13), ((5, 5), 97))


def kernel_is_reference(device: str) -> None:
    """Grey values of the kernel are the reference's but for ties, and within rounding twice of float64."""
    generator = fresh()
    for number, (shape, size) in enumerate(SHAPES):
        store, index, boxes, mirrored = setting(shape, generator)
        last = bool(number % 2)
        stored = store.contiguous(memory_format=torch.channels_last) if last else store
        stored, boxes_there, index_there, mirrored_there = (t.to(device) for t in (stored, boxes, index, mirrored))
        asked = {"index": index_there, "mirrored": mirrored_there, "channels_last": last, **GREY}
        made, wanted = (by(p, replay_rrc, stored, boxes_there, size, **asked) for p in ("triton", "torch"))
        assert made.stride() == wanted.stride()
        apart = (made - wanted).abs()
        assert apart.max() <= 1.001, (shape, size)
        assert (apart > 0.5).float().mean() < 0.01, (shape, size)
        assert (made.cpu().double() - literally(store, index, boxes, mirrored, size)).abs().max() <= 1.001


@needs_triton
def test_the_kernel_is_the_reference_in_the_interpreter() -> None:
    interpreted(__name__, "kernel_is_reference")


@needs_gpu
def test_the_kernel_is_the_reference_on_a_gpu() -> None:
    kernel_is_reference("cuda")


@needs_gpu
def test_two_runs_give_the_same_bits_and_leave_nothing_unwritten() -> None:
    store, index, boxes, _ = (t.cuda() for t in setting((32, 32), fresh()))
    torch.use_deterministic_algorithms(True)
    try:  # torch then fills fresh memory with NaN
        one, other = (by("triton", replay_rrc, store, boxes, 224, index=index, **GREY) for _ in range(2))
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.isfinite(one).all()
    assert torch.equal(one, other)


@pytest.mark.parametrize(("shape", "size"), SHAPES)
def test_the_reference_is_bilinear_interpolation_of_the_mirrored_box(shape: tuple[int, int], size: int) -> None:
    store, index, boxes, mirrored = setting(shape, fresh())
    made = replay_rrc(store, boxes, size, index=index, mirrored=mirrored, **GREY)
    assert (made.double() - literally(store, index, boxes, mirrored, size)).abs().max() <= 1.001  # rounded twice


def test_all_images_are_taken_from_any_strides() -> None:
    store, _, boxes, _ = setting((8, 8), fresh())
    boxes = boxes[:, :1].float().expand(4, len(store))
    wanted = by("torch", replay_rrc, store, boxes, 16, **GREY)
    assert torch.equal(
        by("torch", replay_rrc, store.clone(memory_format=torch.channels_last), boxes, 16, **GREY), wanted
    )


@needs_triton
def test_what_shrinks_is_left_to_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    store, index, boxes, _ = setting((32, 20), fresh())
    with pytest.raises(IncompatibleError, match="images larger than their crops need antialiasing"):
        by("triton", replay_rrc, store, boxes, 31, index=index, **GREY)


BAD: dict[str, dict[str, Any]] = {
    "the store must be (N, C, H, W) uint8, got (2, 3, 4, 4) float32": {"store": torch.zeros(2, 3, 4, 4)},
    "boxes must be (4, 2) float32, got (4, 1) float32": {"boxes": torch.ones(4, 1)},
    "boxes must be inside the images, got [[1.0, 0.0, 4.0, 1.0]]": {
        "boxes": torch.tensor([[0.0, 1.0], [0.0, 0.0], [4.0, 4.0], [1.0, 1.0]])
    },
    "size must be >= 1, got 0": {"size": 0},
    "mirrored must be (2,), got (3,) bool": {"mirrored": torch.ones(3).bool()},
    "std must be other than 0, got (1.0, 0.0, 1.0)": {"std": (1.0, 0.0, 1.0)},
}


@pytest.mark.parametrize("said", BAD)
def test_bad_input_is_one_line(said: str) -> None:
    boxes = torch.tensor([[0.0, 0.0], [0.0, 0.0], [4.0, 4.0], [4.0, 4.0]])
    right: dict[str, Any] = {"store": torch.zeros(2, 3, 4, 4).byte(), "boxes": boxes, "size": 8, **GREY}
    with pytest.raises(ConfigError) as raised:
        replay_rrc(**right | BAD[said])
    assert str(raised.value) == f"replay_rrc: {said}"
