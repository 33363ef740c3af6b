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

from clbench.augment import Transform
from clbench.images.cifar import CifarConfig, CifarScenario
from clbench.images.crops import pretrained_transform
from clbench.scenario import scenarios
from clbench.space import require


@dataclass
class Cifar224Config(CifarConfig):
    """The shared fields, and the size that images are shown in."""

    size: int = 224  # height and width that the network takes, pixels

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.size >= 8, "scenario.size", ">= 8", self.size)


@scenarios.register(Cifar224Config)
class Cifar224(CifarScenario):
    """A hundred classes, a few at a time, for networks that were pre-trained at 224 pixels."""

    config: Cifar224Config
    default_model = "timm/vit_base_patch16_224.augreg_in21k"
    pretrained_model = "timm/vit_base_patch16_224.augreg_in21k"

    def transform(self) -> Transform:
        """Random-resized crops in training, the centre of enlarged images in testing."""
        return pretrained_transform(self.config.size, self.config.augment)
