"""CIFAR-100 as the field of pre-trained models measures it: enlarged to 224 pixels.

The conventions of L2P, SimpleCIL, RevisitingCIL/PILOT and MOS (arXiv 2412.09441). Training: random-resized crops of 5
to 100 % of the area, mirrored. Test: resized to 256 (bicubic), the central 224 kept, which loses an eighth of each
picture's width and height. Inputs stay in [0, 1], without mean and standard deviation. Classes arrive in the order
``numpy.random.RandomState(seed).permutation(100)``; published tables have seed 1993, e.g. "B0-Inc10". Images are
stored with their 32 pixels and enlarged in batches, on the device. A strategy that does not itself start from a
pre-trained model needs ``model.pretrained=true`` or ``model.checkpoint=FILE``. Files are those of scenario cifar100.
"""

from __future__ import annotations

from dataclasses import dataclass

from clbench import cifar
from clbench.crops import pretrained_transform
from clbench.cut import CutConfig, check_at_most
from clbench.record import Part
from clbench.scenario import Scenario, Stream, class_stream, half_of_classes, scenarios
from clbench.space import require


@dataclass
class Cifar224Config(CutConfig):
    """How the hundred classes are cut into experiences, and the size they are shown in."""

    size: int = 224  # height and width that the network takes, pixels
    augment: bool = True  # random-resized crop and flip in training
    train_per_class: int | None = None  # keep only so many training images of each class; null: all 500

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_most(self, cifar.CLASSES)
        require(self.size >= 8, "scenario.size", ">= 8", self.size)
        kept = self.train_per_class
        require(kept is None or 1 <= kept <= 500, "scenario.train_per_class", "in 1 .. 500 or null", kept)


@scenarios.register(Cifar224Config)
class Cifar224(Scenario):
    """A hundred classes, a few at a time, for networks that were pre-trained at 224 pixels."""

    config: Cifar224Config
    default_model = "timm/vit_base_patch16_224.augreg_in21k"
    pretrained_model = "timm/vit_base_patch16_224.augreg_in21k"

    def check(self, part: Part) -> None:
        """See that the part can be cut and that the data are there, downloading them where they are not."""
        self.config.sizes(len(half_of_classes(cifar.CLASSES, part)))
        cifar.verify(cifar.find(self.root))

    def stream(self, seed: int, part: Part = Part.WHOLE, split_seed: int | None = None, swap: bool = False) -> Stream:
        """New classes in an order drawn from the seed."""
        config = self.config
        train, test, names, digest = cifar.load(cifar.find(self.root), str(self.device), config.train_per_class)
        classes = half_of_classes(cifar.CLASSES, part, split_seed, swap)
        transform = pretrained_transform(config.size, config.augment)
        sizes = config.sizes(len(classes))
        return class_stream(
            train, test, classes, sizes, seed, config.setting, transform, digest, names, family="cifar100"
        )
