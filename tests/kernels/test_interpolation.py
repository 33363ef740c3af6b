from __future__ import annotations

import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from clbench.kernels.interpolation import Interpolation, interpolation_weights, resample
from tests.images.test_crops import TIES, pictures, pillow, tensor


def test_crops_of_own_boxes_are_torchvisions_per_image() -> None:
    images = pictures(6, 40, 56)
    boxes = [(0, 0, 40, 56), (3, 5, 8, 9), (39, 55, 1, 1), (0, 10, 40, 20), (7, 0, 33, 56), (1, 2, 24, 24)]
    top, left, tall, wide = torch.tensor(boxes).T.float()
    rows = interpolation_weights(top, tall, 40, 24, Interpolation.BILINEAR)
    columns = interpolation_weights(left, wide, 56, 24, Interpolation.BILINEAR)
    for image, box, got in zip(images, boxes, resample(images, rows, columns), strict=True):
        wanted = tensor(F.resized_crop(pillow(image), *box, [24, 24], InterpolationMode.BILINEAR))
        assert (got - wanted).abs().max() <= 1
        assert (got != wanted).float().mean() < TIES
