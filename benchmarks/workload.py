"""What the arms of the loop benchmark have in common: images, the settings of replay, and what every arm reports.

    python benchmarks/workload.py FOLDER SHARE

5,000 training and 1,000 test images (3, 32, 32) uint8 of 20 classes in 5 experiences of 4; replay of 200 exemplars,
32 new images and 32 exemplars per step, one epoch. Imports no torch: the program that starts the arms stays small.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

CLASSES, EXPERIENCES = 20, 5
CLASSES_EACH = CLASSES // EXPERIENCES
TRAIN_PER_CLASS, TEST_PER_CLASS = 250, 50
MEMORY, BATCH, REPLAYED = 200, 32, 32  # exemplars kept; new examples and exemplars per step
EVALUATION_BATCH = 256
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.05, 0.9, 1e-4
MEAN, STD, PADDING = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), 4
SEED = 0
IMAGES = "images.npz"

NETWORKS: dict[str, tuple[str, int | None]] = {
    "tiny": ("small_cnn", None),
    "slim": ("resnet18", 20),
    "vit": ("small_vit", None),
}
"""The benchmark's name of a network: clbench's name of it, and its width."""

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Data:
    """Images (N, 3, 32, 32) uint8 and their classes (N,) int64."""

    train_images: Images
    train_labels: Labels
    test_images: Images
    test_labels: Labels

    def save(self, folder: Path) -> None:
        """Write ``images.npz``, uncompressed, so that reading it costs every arm the same and little."""
        np.savez(folder / IMAGES, **dataclasses.asdict(self))

    @classmethod
    def load(cls, folder: Path) -> Data:
        """What `save` wrote."""
        with np.load(folder / IMAGES) as arrays:
            return cls(*(arrays[field.name] for field in dataclasses.fields(cls)))


@dataclass(frozen=True)
class Result:
    """What one arm measured of itself; CPU seconds are user and system time of its process."""

    training_seconds: float  # learning all experiences, what is taken of them at their end included
    evaluation_seconds: float  # testing after each experience
    start_up_seconds: float  # from the start of the process to its network's first pass
    steps: int
    accuracy: float  # over the tests of all classes or tasks at the end, percent
    gradient_bytes: int  # of the last step
    state_bytes: int  # of the last optimiser

    def print(self) -> None:
        """One line of JSON for the program that started the arm."""
        print(json.dumps(dataclasses.asdict(self)))


def class_order() -> list[int]:
    """The order in which classes arrive; clbench's own rule (`clbench.scenario.class_order`)."""
    return [int(c) for c in np.random.RandomState(SEED).permutation(CLASSES)]


def make_data(share: float = 1.0) -> Data:
    """Draw the data, always the same; ``share`` of them for a quick look.

    A class is a tint and two low-frequency patterns. An image is one of the two, shifted, perhaps mirrored, more or
    less strong, under clutter and noise: small networks learn some of it in one pass, and none learns all.
    """
    random = np.random.default_rng(0)
    patterns = 45 * _smooth(random, (CLASSES * 2,), 6)
    tints = 22 * random.normal(size=(CLASSES, 3, 1, 1))
    sets = []
    for count in (TRAIN_PER_CLASS, TEST_PER_CLASS):
        labels = random.permutation(np.repeat(np.arange(CLASSES), max(1, round(count * share))))
        sets += [np.stack([_image(random, patterns, tints, label) for label in labels]), labels]
    return Data(*sets)


def _image(random: np.random.Generator, patterns: npt.NDArray[Any], tints: npt.NDArray[Any], label: int) -> Images:
    pattern = patterns[2 * label + random.integers(2)]
    pattern = np.roll(pattern, random.integers(-4, 5, size=2), axis=(1, 2))[:, :, :: random.choice([-1, 1])]
    clutter = 14 * _smooth(random, (1,), 5)[0] + 10 * random.normal(size=(3, 32, 32))
    light = tints[label] + 8 * random.normal(size=(3, 1, 1))
    image: Images = np.clip(128 + light + random.uniform(0.7, 1.3) * pattern + clutter, 0, 255).astype(np.uint8)
    return image


def _smooth(random: np.random.Generator, count: tuple[int], grid: int) -> npt.NDArray[Any]:
    """Noise (count, 3, 32, 32) drawn on a coarse grid and interpolated between its points, wrapping around."""
    place = np.arange(32) * grid / 32
    low, share = place.astype(int), place % 1
    coarse = random.normal(size=(*count, 3, grid, grid))
    rows = coarse[..., low, :] * (1 - share[:, None]) + coarse[..., (low + 1) % grid, :] * share[:, None]
    return rows[..., low] * (1 - share) + rows[..., (low + 1) % grid] * share


if __name__ == "__main__":
    make_data(float(sys.argv[2])).save(Path(sys.argv[1]))
