"""Augmented batches on the CPU: whole batches from memory against a loader that takes image after image.

    python benchmarks/kernels/bench_cpu.py
    python benchmarks/kernels/bench_cpu.py --quick

CIFAR's crop, flip and normalisation, and a sample of a replay memory, as clbench makes them and as suites with a data
loader do: an image at a time through Pillow and torchvision, or torchvision's tensor transforms on one image at a time.
One thread; the arms take turns; CPU time of the process and its children, so that other jobs do not count. Both sides
get the same images and deliver the same: float32 (B, 3, 32, 32), normalised, with labels.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image
from timing import Arms, compared, cpu_seconds, raced
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms import v2

from clbench.augment import ImageTransform
from clbench.table import Source, Table

MEAN, STD = (0.507, 0.487, 0.441), (0.267, 0.256, 0.276)
BATCH = 128
MEMORY, DRAWN, DRAWS = 2000, 64, 20  # exemplars, of which so many per batch, in so many batches
OURS = "clbench"
TARGET = 20  # least wanted ratio of the loader with Pillow to clbench

WINDOW, TURN = transforms.RandomCrop(32, 4), transforms.RandomHorizontalFlip()
PILLOW = transforms.Compose([WINDOW, TURN, transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
FLOAT = v2.ToDtype(torch.float32, scale=True)
TENSORS = v2.Compose([v2.RandomCrop(32, 4), v2.RandomHorizontalFlip(), FLOAT, v2.Normalize(MEAN, STD)])


class Images(Dataset[tuple[Tensor, int]]):
    """What a loader takes: one image and its label at a time, transformed."""

    def __init__(self, images: Any, labels: list[int], transform: Callable[[Any], Tensor]) -> None:
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = self.images[index]
        return self.transform(Image.fromarray(image) if isinstance(image, np.ndarray) else image), self.labels[index]


def drained(batches: Iterator[Any] | DataLoader[Any]) -> None:
    for _ in batches:
        pass


def ours(table: Table) -> None:
    """One pass over a table, as the training loop takes it."""
    generator, order = torch.Generator().manual_seed(0), torch.Generator().manual_seed(1)
    transform = ImageTransform(MEAN, STD, padding=4, flip=True)
    for stored in table.batches(BATCH, order):
        transform.train(stored, generator)


def our_replay(table: Table) -> None:
    """Samples of a memory's rows, augmented."""
    generator = torch.Generator().manual_seed(0)
    transform = ImageTransform(MEAN, STD, padding=4, flip=True)
    for _ in range(DRAWS):
        rows = torch.randperm(len(table), generator=generator)[:DRAWN]
        transform.train(table.source.take(rows), generator)


def their_replay(images: Any, labels: Tensor, transform: Callable[[Any], Tensor]) -> None:
    """Samples of a memory that keeps images and transforms each one as it is drawn."""
    for _ in range(DRAWS):
        chosen = np.random.choice(len(images), size=DRAWN, replace=False)
        drawn = (images[i] for i in chosen)
        torch.stack([transform(Image.fromarray(i) if isinstance(i, np.ndarray) else i) for i in drawn])
        labels[torch.from_numpy(chosen)]


def arms(count: int) -> tuple[Arms, Arms]:
    """Of a pass over so many images, and of a memory's samples."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (max(count, MEMORY), 3, 32, 32), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 100, (len(images),), generator=generator)
    kept = images.contiguous(memory_format=torch.channels_last)  # as CIFAR's files have them
    pictures = kept.permute(0, 2, 3, 1).numpy()
    whole = Table(Source({"image": kept[:count], "label": labels[:count]}))
    memory = Table(Source({"image": kept[:MEMORY], "label": labels[:MEMORY]}))
    by_pillow, by_tensors = (
        Images(pictures[:count], labels[:count].tolist(), PILLOW),
        Images(images[:count], labels[:count].tolist(), TENSORS),
    )
    return {
        "DataLoader, Pillow and torchvision": lambda: drained(DataLoader(by_pillow, BATCH, shuffle=True)),
        "DataLoader, two workers": lambda: drained(DataLoader(by_pillow, BATCH, shuffle=True, num_workers=2)),
        "DataLoader, tensors, torchvision v2": lambda: drained(DataLoader(by_tensors, BATCH, shuffle=True)),
        OURS: lambda: ours(whole),
    }, {
        "memory of images, Pillow and torchvision": lambda: their_replay(pictures[:MEMORY], labels, PILLOW),
        "memory of images, tensors, torchvision v2": lambda: their_replay(images[:MEMORY], labels, TENSORS),
        OURS: lambda: our_replay(memory),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7, help="of each arm")
    parser.add_argument("--quick", action="store_true", help="a tenth of the images, once: does it run at all?")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rounds, count = (1, 256) if asked.quick else (asked.rounds, 2560)
    passing, replaying = arms(count)
    found = raced(passing, rounds, cpu_seconds)
    print("\n".join(compared("One pass: crop, flip, normalise; CPU time, medians", found, count, OURS)), end="\n\n")
    replayed = raced(replaying, rounds, cpu_seconds)
    title = f"{DRAWN} of {MEMORY} exemplars; CPU time, medians"
    print("\n".join(compared(title, replayed, DRAWN * DRAWS, OURS)), end="\n\n")
    print(f"target: the loader with Pillow takes {TARGET} times the CPU time of clbench, or more")


if __name__ == "__main__":
    main()
