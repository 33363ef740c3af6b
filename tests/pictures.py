"""Small folders of images for tests."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np


def make_folder(root: Path, classes: Iterable[str], train: int = 2, test: int = 1, side: int = 24) -> Path:
    """Noise as JPEG files, each class around a grey value of its own: root/{train,val}/<class>/<number>.jpg."""
    from PIL import Image

    draws = np.random.default_rng(0)
    for number, name in enumerate(classes):
        for split, count in (("train", train), ("val", test)):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                noise = draws.integers(0, 100, (side, side + 6, 3)) + number * 37 % 150
                Image.fromarray(noise.astype(np.uint8)).save(folder / f"{i}.jpg", quality=95)
    return root
