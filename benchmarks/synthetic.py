"""The loop benchmark's images as a scenario: 20 classes in experiences of 4.

Read from the file ``images.npz`` under ``data.root``, which ``benchmarks/workload.py`` writes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import workload

from clbench.augment import ImageTransform
from clbench.errors import DataError
from clbench.record import Part, Setting
from clbench.scenario import Scenario, Stream, class_stream, half_of_classes, increments, scenarios
from clbench.table import Source


@dataclass
class SyntheticConfig:
    """Nothing to choose."""


@scenarios.register(SyntheticConfig)
class Synthetic(Scenario):
    """Twenty classes, four at a time."""

    config: SyntheticConfig

    def check(self, part: Part) -> None:
        """See that the file is there."""
        if self.root is None or not (self.root / workload.IMAGES).exists():
            raise DataError(f"no file {workload.IMAGES} in {self.root}; benchmarks/workload.py makes it")

    def stream(self, seed: int, part: Part = Part.WHOLE, split_seed: int | None = None, swap: bool = False) -> Stream:
        """Four new classes per experience, in an order drawn from the seed."""
        self.check(part)
        assert self.root is not None
        data = workload.Data.load(self.root)
        train, test = (
            Source(
                {
                    "image": torch.from_numpy(images).contiguous(memory_format=torch.channels_last),
                    "label": torch.from_numpy(labels),
                },
                self.device,
            )
            for images, labels in ((data.train_images, data.train_labels), (data.test_images, data.test_labels))
        )
        classes = half_of_classes(workload.CLASSES, part, split_seed, swap)
        return class_stream(
            train,
            test,
            classes,
            increments(len(classes), 0, workload.CLASSES_EACH),
            seed,
            Setting.CLASS_INCREMENTAL,
            ImageTransform(workload.MEAN, workload.STD, padding=workload.PADDING, flip=True),
            f"{train.digest()} {test.digest()}",
        )
