"""CIFAR-100, photographs of 100 classes, a few classes at a time.

32x32 pixels in colour, 500 training and 100 test images per class (Krizhevsky 2009, "Learning Multiple Layers of
Features from Tiny Images"). The official files, checked by their md5. Looked for as ``cifar-100-python/`` under
``data.root``, then under ``CLBENCH_DATA``, then downloaded by torchvision. Class order:
``numpy.random.RandomState(seed).permutation(n)``; seed 1993 is that of most published tables. "B50-Inc10" of the field
is ``base=50 increment=10``. Training images are padded by 4, cropped and mirrored. The set repeats a few pictures; one
training picture stands in both halves of the classes, no test picture does.
"""

from __future__ import annotations

from dataclasses import dataclass

from clbench.augment import ImageTransform
from clbench.images.cifar import CifarConfig, CifarScenario
from clbench.scenario import scenarios

MEAN, STD = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)


@dataclass
class Cifar100Config(CifarConfig):
    """The shared fields."""


@scenarios.register(Cifar100Config)
class Cifar100(CifarScenario):
    """A hundred classes, a few at a time."""

    config: Cifar100Config
    default_model = "resnet32"

    def transform(self) -> ImageTransform:
        """Padded, cropped and mirrored in training."""
        return ImageTransform(MEAN, STD, padding=4 if self.config.augment else 0, flip=self.config.augment)
