"""A benchmark of Avalanche, classic or your own, class- or task-incremental.

``scenario.name`` is a classic benchmark (``SplitMNIST``, ``SplitCIFAR10``, ...) or ``module:function``, a function of
yours that returns an Avalanche benchmark (Carta et al. 2023, arXiv 2302.01766). It is called once for all seeds: with
``n_experiences=5``, ``seed=0`` and ``dataset_root`` where it takes them and ``scenario.arguments`` does not say. Its
classes then arrive in an order drawn from the run's seed, or as the benchmark has them; each experience has as many
classes as the benchmark's. Halves are cut by class number. Its transforms are taken off: images are stored as bytes and
normalised by the mean and deviation of the training images at hand. Data are looked for under ``data.root``, then under
``CLBENCH_DATA``, then downloaded. Needs ``pip install 'clbench[avalanche]'``.
"""

from __future__ import annotations

import functools
import json
import os
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from clbench.augment import ImageTransform
from clbench.errors import ConfigError, IncompatibleError
from clbench.record import Part
from clbench.scenario import Scenario, Stream, class_stream, half_of_classes, scenarios
from clbench.space import require
from clbench.table import Source

if TYPE_CHECKING:
    from clbench.avalanche.classic import Parent


class Order(Enum):
    """In which order classes arrive."""

    DRAWN = "drawn"  # from the run's seed, as in our own scenarios
    GIVEN = "given"  # as the benchmark has them, under every seed


@dataclass
class AvalancheConfig:
    """The benchmark, what its function is told, and the augmentation in training."""

    name: str | None = None  # SplitMNIST, SplitCIFAR100, ..., or module:function
    arguments: dict[str, Any] = field(default_factory=dict)  # of its function, e.g. scenario.arguments.n_experiences=10
    order: Order = Order.DRAWN  # in which order classes arrive
    padding: int = 0  # pixels of the random crop
    flip: bool = False  # mirror at random

    def __post_init__(self) -> None:
        require(self.padding >= 0, "scenario.padding", ">= 0", self.padding)


@scenarios.register(AvalancheConfig)
class Avalanche(Scenario):
    """The classes of an Avalanche benchmark, as many at a time as it has."""

    config: AvalancheConfig

    def check(self, part: Part) -> None:
        """See that the benchmark can be had and the part be cut."""
        self._sizes(len(half_of_classes(len(self._parent().order), part)))

    def stream(self, seed: int, part: Part = Part.WHOLE, split_seed: int | None = None, swap: bool = False) -> Stream:
        """The benchmark's classes, in an order drawn from the seed or in its own."""
        parent = self._parent()
        numbers = sorted(parent.order)
        classes = [numbers[i] for i in half_of_classes(len(numbers), part, split_seed, swap)]
        given = [c for c in parent.order if c in set(classes)]
        return class_stream(
            parent.train,
            parent.test,
            classes,
            self._sizes(len(classes)),
            seed,
            parent.setting,
            self._transform(parent.train, classes),
            f"{parent.train.digest()} {parent.test.digest()}",
            names=[str(number) for number in range(numbers[-1] + 1)],
            order=given if self.config.order is Order.GIVEN else None,
        )

    def _parent(self) -> Parent:
        if self.config.name is None:
            raise ConfigError("scenario=avalanche needs scenario.name, e.g. SplitMNIST, or module:function of your own")
        shared = os.environ.get("CLBENCH_DATA")
        root = self.root or (Path(shared) if shared else Path.home() / ".cache" / "clbench")
        return _load(self.config.name, json.dumps(self.config.arguments, sort_keys=True), root, str(self.device))

    def _sizes(self, count: int) -> list[int]:
        """The benchmark's classes per experience, cut off after ``count`` classes."""
        sizes: list[int] = []
        for size in self._parent().sizes:
            sizes += [min(size, count - sum(sizes))] if sum(sizes) < count else []
        if len(sizes) < 2:
            raise IncompatibleError(
                f"{count} classes do not make two experiences of {self.config.name}, whose first has {sizes[0]}; "
                "use smaller experiences, or protocol=single, which does not halve the classes"
            )
        return sizes

    def _transform(self, train: Source, classes: list[int]) -> ImageTransform:
        """Normalise by each channel's mean and deviation over the training images of ``classes``."""
        images = train.columns["image"][torch.isin(train.columns["label"], torch.tensor(classes, device=train.device))]
        values = torch.arange(256, dtype=torch.float64) / 255
        mean, std = [], []
        for channel in range(images.shape[1]):
            share = torch.bincount(images[:, channel].flatten().cpu(), minlength=256) / images[:, channel].numel()
            mean.append(round(float((share * values).sum()), 4))
            std.append(max(round(float((share * (values - mean[-1]).square()).sum().sqrt()), 4), 1 / 255))
        return ImageTransform(tuple(mean), tuple(std), self.config.padding, self.config.flip)


@functools.lru_cache(maxsize=2)
def _load(name: str, arguments: str, root: Path, device: str) -> Parent:
    from clbench.avalanche import classic

    parent = classic.load(name, json.loads(arguments), root)
    train, test = (Source(source.columns, device) for source in (parent.train, parent.test))
    return replace(parent, train=train, test=test)
