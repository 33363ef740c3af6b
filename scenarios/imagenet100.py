"""ImageNet-100, a hundred classes of ImageNet from the user's disk, a few classes at a time.

Three different lists are called ImageNet-100, and their numbers cannot be compared: ``list=podnet`` (the first hundred
of the sorted wnids: PODNet, DER, PyCIL), ``lucir`` (a draw with seed 1993) and ``cmc`` (contrastive multiview coding);
they stand in imagenet100.json with their sources. ``list=folder`` takes the classes that are there, whatever they are.
A class's number is its place in the list; classes arrive in the order
``numpy.random.RandomState(seed).permutation(n)``. Looked for as ``imagenet100/`` or ``imagenet/`` with
``train/<wnid>/`` and ``val/<wnid>/`` under ``data.root``, then under ``CLBENCH_DATA``; all thousand classes may be
there. Nothing is downloaded.
Strategies that start from a pre-trained model get a ViT-B/16 of ImageNet-21k, which has seen all these classes: such
numbers say how it adapts, not how it meets what is new.

Images are decoded once to squares of ``store`` pixels (shorter side resized, bicubic, the middle kept). Training:
random-resized crops of 8 to 100 % of that square, mirrored; test: resized (bicubic), the central 7/8 kept; normalised
with ImageNet's mean and standard deviation. What differs from PyCIL: no colour jitter, bicubic in place of bilinear.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from clbench.errors import DataError
from clbench.images import folders
from clbench.images.crops import CropTransform, evaluation_resize
from clbench.images.cut import PicturesConfig
from clbench.places import places
from clbench.record import Part
from clbench.scenario import Scenario, Stream, class_stream, half_of_classes, scenarios

NAMES = ("imagenet100", "ImageNet100", "imagenet-100", "ImageNet-100", "imagenet", "ImageNet", "ILSVRC2012", ".")
"""Folders that are looked for, the last one being the place itself."""

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class ClassList(Enum):
    """Which hundred classes."""

    PODNET = "podnet"
    LUCIR = "lucir"
    CMC = "cmc"
    FOLDER = "folder"  # those that are there


@dataclass
class Imagenet100Config(PicturesConfig):
    """Which classes, how they are cut into experiences, and the size they are shown in."""

    list: ClassList = ClassList.PODNET  # which classes, in which numbering; folder: those that are there


@scenarios.register(Imagenet100Config)
class Imagenet100(Scenario):
    """A hundred classes of ImageNet, a few at a time."""

    config: Imagenet100Config
    default_model = "timm/resnet18"
    pretrained_model = "timm/vit_base_patch16_224.augreg_in21k"

    def check(self, part: Part) -> None:
        """See that every class of the list has images, and that the part can be cut."""
        count = len(self._listed().classes)
        self.config.sizes(len(half_of_classes(count, part)))

    def stream(self, seed: int, part: Part = Part.WHOLE, split_seed: int | None = None, swap: bool = False) -> Stream:
        """New classes in an order drawn from the seed."""
        config, found = self.config, self._listed()
        train, test, digest = folders.load(found, config.store, str(self.device))
        classes = half_of_classes(len(found.classes), part, split_seed, swap)
        transform = CropTransform(
            config.size,
            evaluation_resize(config.size),
            scale=(0.08, 1.0) if config.augment else None,
            flip=config.augment,
            mean=MEAN,
            std=STD,
        )
        sizes = config.sizes(len(classes))
        return class_stream(
            train, test, classes, sizes, seed, config.setting, transform, digest, found.classes, family="imagenet"
        )

    def _listed(self) -> folders.ImageFolder:
        root, chosen = find(self.root), self.config.list.value
        if chosen == "folder":
            return folders.listed(root)
        lacking = missing(root)
        if lacking[chosen]:
            fitting = [name for name, wnids in lacking.items() if not wnids]
            raise DataError(
                f"{root} lacks {len(lacking[chosen])} of the 100 classes of list={chosen}: "
                f"{folders.shown(lacking[chosen])}; what fits what is there: "
                + " ".join(f"scenario.list={name}" for name in [*fitting, "folder"])
            )
        return folders.listed(root, lists()[chosen])


@functools.lru_cache
def lists() -> dict[str, tuple[str, ...]]:
    """The published lists: a hundred wnids each, in the published order."""
    published = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
    return {name: tuple(" ".join(entry["wnids"]).split()) for name, entry in published.items()}


def missing(root: Path) -> dict[str, tuple[str, ...]]:
    """The wnids of each list that have no folder in ``root``'s training folder."""
    there = set(folders.class_folders(folders.split_folders(root)[0]))
    return {name: tuple(wnid for wnid in wnids if wnid not in there) for name, wnids in lists().items()}


def find(root: Path | None) -> Path:
    """The folder that holds ``train/`` and ``val/``.

    Raises:
        DataError: none of the usual places has one.
    """
    searched = places(root)
    for place in searched:
        for name in NAMES:
            if folders.class_folders(place / name / "train"):
                return place / name
    where = " or ".join(map(str, searched)) or "data.root (not given) or CLBENCH_DATA (not set)"
    raise DataError(
        f"no ImageNet under {where}: looked for imagenet100/ and imagenet/ with train/<wnid>/ and val/<wnid>/; "
        "name the folder that holds it: data.root=FOLDER"
    )
