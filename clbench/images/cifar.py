"""CIFAR-100's official files, where they lie and whether they are whole, and what its scenarios share."""

from __future__ import annotations

import functools
from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path

import torch

from clbench.augment import Transform
from clbench.errors import DataError
from clbench.images.cut import CutConfig, check_at_most
from clbench.kernels.layout import pick
from clbench.places import places
from clbench.record import Part
from clbench.scenario import Scenario, Stream, class_stream, half_of_classes
from clbench.space import require
from clbench.table import Source, place

CLASSES = 100


@dataclass
class CifarConfig(CutConfig):
    """How the hundred classes are cut into experiences."""

    augment: bool = True  # random crop and flip in training
    train_per_class: int | None = None  # keep only so many training images of each class; null: all 500

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_most(self, CLASSES)
        kept = self.train_per_class
        require(kept is None or 1 <= kept <= 500, "scenario.train_per_class", "in 1 .. 500 or null", kept)


class CifarScenario(Scenario):
    """A hundred classes, a few at a time. Subclasses say in what size."""

    config: CifarConfig

    @abstractmethod
    def transform(self) -> Transform:
        """From stored images to a network's input."""

    def check(self, part: Part) -> None:
        """See that the part can be cut and that the data are there, downloading them where they are not."""
        self.config.sizes(len(half_of_classes(CLASSES, part)))
        verify(find(self.root))

    def stream(self, seed: int, part: Part = Part.WHOLE, split_seed: int | None = None, swap: bool = False) -> Stream:
        """New classes in an order drawn from the seed."""
        config = self.config
        train, test, names, digest = load(find(self.root), str(self.device), config.train_per_class)
        classes = half_of_classes(CLASSES, part, split_seed, swap)
        sizes = config.sizes(len(classes))
        return class_stream(
            train, test, classes, sizes, seed, config.setting, self.transform(), digest, names, family="cifar100"
        )


def find(root: Path | None) -> Path:
    """The folder that holds ``cifar-100-python/``; downloaded where it is in none of the usual places.

    Raises:
        DataError: nothing is there and nothing can be downloaded.
    """
    searched = places(root)
    for folder in searched:
        if (folder / "cifar-100-python").is_dir():
            return folder
    return _download(searched[0] if searched else Path.home() / ".cache" / "clbench")


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
def load(root: Path, device: str, kept: int | None = None) -> tuple[Source, Source, list[str], str]:
    """The verified files as tables.

    Args:
        root: the folder that holds ``cifar-100-python/``.
        device: where batches are wanted.
        kept: training images of each class, the first in the file; all where None.

    Returns:
        Training and test source, columns ``image`` (N, 3, 32, 32) uint8 and ``label`` (N,) int64; the classes' names;
        a digest of both.

    Raises:
        DataError: a file is missing or damaged.
    """
    from torchvision.datasets import CIFAR100

    verify(root)
    sets = {split: CIFAR100(str(root), train=split == "train") for split in ("train", "test")}
    sources = []
    for split, data in sets.items():
        labels = torch.tensor(data.targets)
        images = torch.from_numpy(data.data).permute(0, 3, 1, 2)
        if split == "train" and kept is not None:
            rows = torch.cat([(labels == c).nonzero()[:kept, 0] for c in range(CLASSES)])
            images, labels = pick(images, rows), labels[rows]
        sources.append(place({"image": images, "label": labels}, device, root / "clbench-cache" / f"cifar100-{split}"))
    train, test = sources
    return train, test, list(sets["test"].classes), f"{train.digest()} {test.digest()}"
