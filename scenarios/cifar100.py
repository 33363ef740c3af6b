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

from clbench import cifar
from clbench.augment import ImageTransform
from clbench.cut import CutConfig, check_at_most
from clbench.record import Part
from clbench.scenario import Scenario, Stream, class_stream, half_of_classes, scenarios
from clbench.space import require

MEAN, STD = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)


@dataclass
class Cifar100Config(CutConfig):
    """How the hundred classes are cut into experiences."""

    augment: bool = True  # random crop and flip in training
    train_per_class: int | None = None  # keep only so many training images of each class; null: all 500

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_most(self, cifar.CLASSES)
        kept = self.train_per_class
        require(kept is None or 1 <= kept <= 500, "scenario.train_per_class", "in 1 .. 500 or null", kept)


@scenarios.register(Cifar100Config)
class Cifar100(Scenario):
    """A hundred classes, a few at a time."""

    config: Cifar100Config
    default_model = "resnet32"

    def check(self, part: Part) -> None:
        """See that the part can be cut and that the data are there, downloading them where they are not."""
        self.config.sizes(len(half_of_classes(cifar.CLASSES, part)))
        cifar.verify(cifar.find(self.root))

    def stream(self, seed: int, part: Part = Part.WHOLE, split_seed: int | None = None, swap: bool = False) -> Stream:
        """New classes in an order drawn from the seed."""
        config = self.config
        train, test, names, digest = cifar.load(cifar.find(self.root), str(self.device), config.train_per_class)
        classes = half_of_classes(cifar.CLASSES, part, split_seed, swap)
        transform = ImageTransform(MEAN, STD, padding=4 if config.augment else 0, flip=config.augment)
        sizes = config.sizes(len(classes))
        return class_stream(
            train, test, classes, sizes, seed, config.setting, transform, digest, names, family="cifar100"
        )
