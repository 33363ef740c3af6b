"""Any folder of images, one folder per class, a few classes at a time.

``scenario.path=FOLDER`` holds ``train/<class>/...`` and ``test/<class>/...`` (or ``val``): CUB, ImageNet-R, ImageNet-A,
ObjectNet, OmniBenchmark and VTAB as the field of pre-trained models has them, or one's own. A relative path is looked
for from here, then under ``data.root``, then under ``CLBENCH_DATA``. A class's number is the place of its folder's name
among all, sorted as strings ('10' comes before '4'); classes arrive in the order
``numpy.random.RandomState(seed).permutation(n)``, or by number with ``shuffle=false`` (VTAB).

Images are decoded once: the shorter side is resized to ``store`` pixels (bicubic) and the middle kept, so random crops
come from that square, not from the whole picture; training and test follow the same conventions as scenario cifar224.
A class needs at least one image in both folders.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from clbench.errors import DataError
from clbench.images import folders
from clbench.images.crops import pretrained_transform
from clbench.images.cut import PicturesConfig
from clbench.places import places
from clbench.record import Part
from clbench.scenario import Scenario, Stream, class_stream, half_of_classes, scenarios


@dataclass
class FolderConfig(PicturesConfig):
    """Which folder, how its classes are cut into experiences, and the size they are shown in."""

    path: Path | None = None  # folder that holds train/ and test/ (or val/), each with a folder per class
    shuffle: bool = True  # draw the order of classes from the seed; false: in the order of their folders' names


@scenarios.register(FolderConfig)
class Folder(Scenario):
    """The classes of a folder, a few at a time."""

    config: FolderConfig
    default_model = "timm/vit_base_patch16_224.augreg_in21k"
    pretrained_model = "timm/vit_base_patch16_224.augreg_in21k"

    def check(self, part: Part) -> None:
        """See that the folder is there, that every class has images, and that the part can be cut."""
        count = len(folders.listed(self._root()).classes)
        self.config.sizes(len(half_of_classes(count, part)))

    def stream(self, seed: int, part: Part = Part.WHOLE, split_seed: int | None = None, swap: bool = False) -> Stream:
        """New classes in an order drawn from the seed, or in that of their names."""
        config = self.config
        found = folders.listed(self._root())
        train, test, digest = folders.load(found, config.store, str(self.device))
        classes = half_of_classes(len(found.classes), part, split_seed, swap)
        return class_stream(
            train,
            test,
            classes,
            config.sizes(len(classes)),
            seed,
            config.setting,
            pretrained_transform(config.size, config.augment),
            digest,
            found.classes,
            None if config.shuffle else classes,
            str(self._root().resolve()),
        )

    def _root(self) -> Path:
        path = self.config.path
        if path is None:
            raise DataError("scenario.path=FOLDER is missing: it holds train/ and test/, each with a folder per class")
        path = path.expanduser()
        tried = [path, *(place / path for place in places(self.root))]
        return next((folder for folder in tried if folder.is_dir()), path)
