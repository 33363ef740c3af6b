"""CIFAR-100, photographs of 100 classes, a few classes at a time.

32x32 pixels in colour, 500 training and 100 test images per class (Krizhevsky 2009, "Learning Multiple Layers of
Features from Tiny Images"). The official files, checked by their md5. Looked for as ``cifar-100-python/`` under
``data.root``, then under ``CLBENCH_DATA``, then downloaded by torchvision. Class order:
``numpy.random.RandomState(seed).permutation(n)``; seed 1993 is that of most published tables. "B50-Inc10" of the field
is ``base=50 increment=10``. Training images are padded by 4, cropped and mirrored. The set repeats a few pictures; one
training picture stands in both halves of the classes, no test picture does.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path

import torch

from clbench.augment import ImageTransform
from clbench.errors import DataError
from clbench.record import Part, Setting
from clbench.scenario import Scenario, Stream, class_stream, half_of_classes, increments, scenarios
from clbench.space import require
from clbench.table import Source, place

MEAN, STD = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)


@dataclass
class Cifar100Config:
    """How the hundred classes are cut into experiences."""

    base: int = 0  # classes of the first experience; 0: as many as the others
    increment: int = 10  # classes of each later experience; the last one takes what is left
    tasks: int | None = None  # number of experiences after the base, in place of increment
    setting: Setting = Setting.CLASS_INCREMENTAL  # whether test examples come with their experience
    augment: bool = True  # random crop and flip in training
    train_per_class: int | None = None  # keep only so many training images of each class; null: all 500

    def __post_init__(self) -> None:
        require(0 <= self.base < 100, "scenario.base", "in 0 .. 99", self.base)
        require(1 <= self.increment <= 99, "scenario.increment", "in 1 .. 99", self.increment)
        require(self.tasks is None or 1 <= self.tasks <= 100, "scenario.tasks", "in 1 .. 100 or null", self.tasks)
        kept = self.train_per_class
        require(kept is None or 1 <= kept <= 500, "scenario.train_per_class", "in 1 .. 500 or null", kept)


@scenarios.register(Cifar100Config)
class Cifar100(Scenario):
    """A hundred classes, a few at a time."""

    config: Cifar100Config
    default_model = "resnet32"

    def check(self, part: Part) -> None:
        """See that the part can be cut and that the data are there, downloading them where they are not."""
        self._sizes(len(half_of_classes(100, part)))
        verify(find(self.root))

    def stream(self, seed: int, part: Part = Part.WHOLE, split_seed: int | None = None, swap: bool = False) -> Stream:
        """New classes in an order drawn from the seed."""
        train, test, names, digest = _load(find(self.root), str(self.device), self.config.train_per_class)
        classes = half_of_classes(100, part, split_seed, swap)
        augment = {"padding": 4, "flip": True} if self.config.augment else {}
        transform = ImageTransform(MEAN, STD, **augment)  # type: ignore[arg-type]
        sizes = self._sizes(len(classes))
        return class_stream(train, test, classes, sizes, seed, self.config.setting, transform, digest, names)

    def _sizes(self, count: int) -> list[int]:
        config = self.config
        each = config.increment if config.tasks is None else max(1, (count - config.base) // config.tasks)
        return increments(count, config.base, each)


def find(root: Path | None) -> Path:
    """The folder that holds ``cifar-100-python/``; downloaded where it is in none of the usual places.

    Raises:
        DataError: nothing is there and nothing can be downloaded.
    """
    shared = os.environ.get("CLBENCH_DATA")
    places = [folder for folder in (root, Path(shared) if shared else None) if folder is not None]
    for folder in places:
        if (folder / "cifar-100-python").is_dir():
            return folder
    return _download(places[0] if places else Path.home() / ".cache" / "clbench")


def _download(folder: Path) -> Path:
    from torchvision.datasets import CIFAR100

    if not (folder / "cifar-100-python").is_dir():
        try:
            CIFAR100(str(folder), download=True)
        except (OSError, RuntimeError) as error:
            raise DataError(
                f"CIFAR-100 is not under {folder} and cannot be downloaded ({error}); "
                "put the folder cifar-100-python/ somewhere and name its parent: data.root=FOLDER"
            ) from error
    return folder


def verify(root: Path) -> None:
    """Compare every file with its published md5.

    Raises:
        DataError: a file is missing or damaged.
    """
    from torchvision.datasets import CIFAR100
    from torchvision.datasets.utils import check_integrity

    folder = root / "cifar-100-python"
    for name, md5 in [*CIFAR100.train_list, *CIFAR100.test_list, [CIFAR100.meta["filename"], CIFAR100.meta["md5"]]]:
        if not check_integrity(str(folder / name), md5):
            what = "is damaged (its md5 differs)" if (folder / name).exists() else "is missing"
            raise DataError(f"{folder / name} {what}; delete {folder} and run again to download it anew")


@functools.lru_cache(maxsize=2)
def _load(root: Path, device: str, kept: int | None) -> tuple[Source, Source, list[str], str]:
    from torchvision.datasets import CIFAR100

    verify(root)
    sets = {split: CIFAR100(str(root), train=split == "train") for split in ("train", "test")}
    sources = []
    for split, data in sets.items():
        labels = torch.tensor(data.targets)
        images = torch.from_numpy(data.data).permute(0, 3, 1, 2).contiguous()
        if split == "train" and kept is not None:
            rows = torch.cat([(labels == c).nonzero()[:kept, 0] for c in range(100)])
            images, labels = images[rows], labels[rows]
        sources.append(place({"image": images, "label": labels}, device, root / "clbench-cache" / f"cifar100-{split}"))
    train, test = sources
    return train, test, list(sets["test"].classes), f"{train.digest()} {test.digest()}"
