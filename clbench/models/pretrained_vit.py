"""The vision transformer that comes with its weights, so that pre-trained strategies run without a network.

A `SmallViT` of 32x32 pixels, 4x4 patches, width 128 and 4 blocks. Its weights are the file beside this one, trained on
invented characters (scenario ``glyphs``, the tuning half), which are disjoint from every other scenario's images and
drawn by this package's own program. The file's certificate says how, and by which command; `read_certificate`.
Images of other sizes are resized, grey ones shown in three equal channels.
"""

from __future__ import annotations

from pathlib import Path

import torch.nn.functional as F
from torch import Tensor

from clbench.errors import IncompatibleError
from clbench.models.checkpoint import load_weights
from clbench.models.config import EMBEDDED
from clbench.models.small_vit import SmallViT

WEIGHTS = Path(__file__).with_suffix(".safetensors")
SIDE = 32  # pixels


class PretrainedViT(SmallViT):
    """The embedded backbone.

    Args:
        shape: of one image that will come, (C, H, W), C = 1 or 3.
        weights: load them; without, it begins at random.

    Raises:
        IncompatibleError: images have neither one nor three channels.
    """

    def __init__(self, shape: tuple[int, int, int], weights: bool = True) -> None:
        if shape[0] not in (1, 3):
            raise IncompatibleError(f"{EMBEDDED} takes images of 1 or 3 channels, got {shape[0]}; choose another model")
        super().__init__((3, SIDE, SIDE), width=128)
        if weights:
            load_weights(self, WEIGHTS, EMBEDDED)

    def embed(self, images: Tensor) -> Tensor:
        """Tokens (N, 65, 128) of images (N, 1 or 3, H, W)."""
        if images.shape[-2:] != (SIDE, SIDE):
            images = F.interpolate(images, (SIDE, SIDE), mode="bilinear", antialias=True)
        return super().embed(images.expand(-1, 3, -1, -1))
