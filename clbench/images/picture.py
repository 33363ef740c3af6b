"""One image file of any kind as a square of RGB pixels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels: TypeAlias = npt.NDArray[np.uint8]


def square(path: Path, side: int) -> Pixels:
    """One file as RGB, turned as its EXIF orientation says, its shorter side resized to ``side``, the middle kept.

    Transparent pictures are laid on white; 16-bit grey keeps its upper 8 bits.

    Returns:
        (3, side, side) uint8.
    """
    import PIL.Image
    import PIL.ImageOps

    with PIL.Image.open(path) as opened:
        image = _rgb(PIL.ImageOps.exif_transpose(opened))
    width, height = image.size
    short = min(width, height)
    # torchvision's Resize and CenterCrop, so that evaluation in this size is theirs to the bit
    image = image.resize((side * width // short, side * height // short), PIL.Image.Resampling.BICUBIC)
    left, top = round((image.width - side) / 2), round((image.height - side) / 2)
    return np.asarray(image.crop((left, top, left + side, top + side))).transpose(2, 0, 1)


def _rgb(image: Image) -> Image:
    import PIL.Image

    if image.mode == "I" and np.asarray(image).max() > 255:  # 16 bits, as older readers hand them over
        return PIL.Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode.startswith("I;16"):
        return PIL.Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = PIL.Image.new("RGBA", image.size, "white")
        return PIL.Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def reason(error: Exception) -> str:
    """Why `square` could not read a file, in a few words."""
    import PIL

    if isinstance(error, PIL.UnidentifiedImageError):
        return "no image"
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]
