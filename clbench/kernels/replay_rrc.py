"""Random-resized crops from uint8 images: mirror, cut a box, resize it bilinearly to a square, normalise.

Each image is mirrored left to right where asked, then its box is resized to size x size pixels by Pillow's bilinear
weights (`clbench.kernels.interpolation`), columns first, each pass rounded to whole grey values, and normalised. The
boxes are handed over (`clbench.images.crops.random_boxes`).

The kernel computes each output pixel from at most four stored ones, which is all there is to it where nothing shrinks;
larger images, whose boxes may need antialiasing, take the reference. Both use the same weights and round at the same
places. A sum of two products may still differ in its last bit, as matrix products do from device to device: then a
grey value that lies half-way between two may come out as the other.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from clbench.kernels.dispatch import by_triton
from clbench.kernels.interpolation import Interpolation, interpolation_weights, resample
from clbench.kernels.library import empty_images, register
from clbench.kernels.normalise import affine, check_images, kind, normalised
from clbench.kernels.replay_gather import mirror
from clbench.space import require


def replay_rrc(
    store: Tensor,
    boxes: Tensor,
    size: int,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    index: Tensor | None = None,
    mirrored: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
    channels_last: bool = True,
) -> Tensor:
    """Crops (B, C, size, size) of the store's images, normalised.

    Args:
        store: (N, C, H, W) uint8, any strides.
        boxes: (4, B) float32, whole numbers on the store's device: top, left, height, width. They lie in the image,
            which is not looked at on a GPU.
        size: height and width of the crops, pixels.
        mean: per channel, in units of [0, 1].
        std: per channel, in units of [0, 1].
        index: rows of the store, (B,) int64; None for all in their order.
        mirrored: (B,) bool; None for none.
        dtype: float32, bfloat16 or float16.
        channels_last: memory format of the crops.

    Raises:
        ConfigError: shapes, types or ranges are not these.
        IncompatibleError: `CLBENCH_KERNELS` asks for a kernel that cannot run.
    """
    if torch.compiler.is_compiling():
        made: Tensor = _traced(store, boxes, size, mean, std, index, mirrored, dtype, channels_last)
        return made
    check_images("replay_rrc", store, mean, std, dtype)
    _check(store, boxes, size, index, mirrored)
    kept = [t for t in (boxes, index, mirrored) if t is not None]
    shrinks = "images larger than their crops need antialiasing" if max(store.shape[2:]) > size else ""
    if by_triton("replay_rrc", [store, *kept], shrinks):
        from clbench.kernels.compiled import replay_rrc as compiled

        scale, shift = affine(mean, std, store.device)
        return compiled.launch(store, boxes, size, index, mirrored, scale, shift, dtype, channels_last)
    images = store if index is None else store.index_select(0, index)
    if mirrored is not None:
        images = mirror(images, mirrored)
    top, left, tall, wide = boxes
    rows = interpolation_weights(top, tall, images.shape[2], size, Interpolation.BILINEAR)
    columns = interpolation_weights(left, wide, images.shape[3], size, Interpolation.BILINEAR)
    return normalised(resample(images, rows, columns), mean, std, channels_last).to(dtype)


def _check(store: Tensor, boxes: Tensor, size: int, index: Tensor | None, mirrored: Tensor | None) -> None:
    count = len(store) if index is None else len(index)
    whole = boxes.dtype == torch.float32 and boxes.shape == (4, count)
    require(whole, "replay_rrc: boxes", f"(4, {count}) float32", kind(boxes))
    fits = mirrored is None or mirrored.shape == (count,)
    require(fits, "replay_rrc: mirrored", f"({count},)", kind(mirrored))
    require(size >= 1, "replay_rrc: size", ">= 1", size)
    if boxes.device.type == "cpu":
        ends = boxes[:2] + boxes[2:] <= boxes.new_tensor(store.shape[2:])[:, None]
        outside = ~((boxes[:2] >= 0) & (boxes[2:] >= 1) & ends).all(0)
        require(not outside.any(), "replay_rrc: boxes", "inside the images", boxes.T[outside][:1].tolist())


def _node(store: Tensor, boxes: Tensor, size: int, mean: list[float], std: list[float], *rest: Any) -> Tensor:
    index, mirrored, dtype, channels_last = rest
    named = {"index": index, "mirrored": mirrored, "dtype": dtype, "channels_last": channels_last}
    crops = replay_rrc(store, boxes, size, mean=tuple(mean), std=tuple(std), **named)
    return crops.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def _fake(store: Tensor, boxes: Tensor, size: int, *rest: Any) -> Tensor:
    return empty_images(store, boxes.shape[1], size, size, *rest[-2:])


register(
    "replay_rrc(Tensor store, Tensor boxes, int size, float[] mean, float[] std, Tensor? index, Tensor? mirrored, "
    "ScalarType dtype, bool channels_last) -> Tensor",
    _node,
    _fake,
)
_traced = torch.ops.clbench.replay_rrc.default
