"""Handwritten digits, 10 classes in experiences of 2; nothing to download.

scikit-learn's copy of the test set of "Optical Recognition of Handwritten Digits" (Alpaydin & Kaynak 1998, UCI, CC BY
4.0): 1,797 images, of which 1,437 train and 360 test, a fixed split that keeps the classes' shares. Grey values 0-16
are stored as 0-240. The two-phase halves have 5 classes each, so their experiences have 2, 2 and 1.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch

from clbench.augment import ImageTransform
from clbench.record import Part, Setting
from clbench.scenario import Scenario, Stream, class_stream, half_of_classes, increments, scenarios
from clbench.space import require
from clbench.table import Source


@dataclass
class DigitsConfig:
    """How the ten digits are cut into experiences."""

    increment: int = 2  # classes per experience; the last one takes what is left
    setting: Setting = Setting.CLASS_INCREMENTAL  # whether test examples come with their experience

    def __post_init__(self) -> None:
        require(1 <= self.increment <= 5, "scenario.increment", "in 1 .. 5", self.increment)


@scenarios.register(DigitsConfig)
class Digits(Scenario):
    """Ten digits, a few at a time."""

    config: DigitsConfig
    default_model = "small_cnn"

    def check(self, part: Part) -> None:
        """See that the part can be cut."""
        increments(len(half_of_classes(10, part)), 0, self.config.increment)

    def stream(self, seed: int, part: Part = Part.WHOLE, split_seed: int | None = None, swap: bool = False) -> Stream:
        """Two new digits per experience, in an order drawn from the seed."""
        train, test, digest = _load(str(self.device))
        classes = half_of_classes(10, part, split_seed, swap)
        return class_stream(
            train,
            test,
            classes,
            increments(len(classes), 0, self.config.increment),
            seed,
            self.config.setting,
            ImageTransform(mean=(0.286,), std=(0.353,)),
            digest,
            names=[str(digit) for digit in range(10)],
            family="digits",
        )


@functools.lru_cache(maxsize=2)
def _load(device: str) -> tuple[Source, Source, str]:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = torch.from_numpy(digits.images).mul(15).to(torch.uint8)[:, None]
    labels = torch.from_numpy(digits.target).long()
    rows = train_test_split(range(len(labels)), test_size=360, stratify=digits.target, random_state=0)
    train, test = (Source({"image": images[r], "label": labels[r]}, device) for r in rows)
    return train, test, f"{train.digest()} {test.digest()}"
