"""What bare loops over images share: all data in one uint8 tensor, whole batches augmented at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
import workload
from torch import Tensor


class Images:
    """The data, with classes numbered as they arrive."""

    def __init__(self, data: workload.Data) -> None:
        arrival = torch.empty(workload.CLASSES, dtype=torch.int64)
        arrival[torch.tensor(workload.class_order())] = torch.arange(workload.CLASSES)
        self.images, self.test_images = torch.from_numpy(data.train_images), torch.from_numpy(data.test_images)
        self.labels, self.test_labels = (arrival[torch.from_numpy(y)] for y in (data.train_labels, data.test_labels))
        std = torch.tensor(workload.STD).view(1, 3, 1, 1)
        self.scale, self.shift = 1 / (255 * std), -torch.tensor(workload.MEAN).view(1, 3, 1, 1) / std

    def rows(self, index: int) -> Tensor:
        """Row numbers of the training images of experience ``index``."""
        return (self.labels // workload.CLASSES_EACH == index).nonzero()[:, 0]

    def augmented(self, rows: Tensor) -> Tensor:
        """Training images, cropped and mirrored at random, normalised: float32 (N, C, H, W)."""
        return self._normalised(augmented(self.images.index_select(0, rows)))

    def plain(self, rows: Tensor) -> Tensor:
        """Training images, normalised only."""
        return self._normalised(self.images.index_select(0, rows))

    @torch.no_grad()
    def accuracy(self, answer: Callable[[Tensor], Tensor], index: int) -> float:
        """Percent of the test images of experiences 0 to ``index`` whose classes (N,) ``answer`` gives rightly."""
        rows = (self.test_labels < (index + 1) * workload.CLASSES_EACH).nonzero()[:, 0]
        right = torch.zeros((), dtype=torch.int64)
        for batch in rows.split(workload.EVALUATION_BATCH):
            answers = answer(self._normalised(self.test_images.index_select(0, batch)))
            right += (answers == self.test_labels[batch]).sum()
        return 100 * int(right) / len(rows)

    def _normalised(self, images: Tensor) -> Tensor:
        return images.to(torch.float32, memory_format=torch.channels_last).mul_(self.scale).add_(self.shift)


def augmented(images: Tensor) -> Tensor:
    """Crop and mirror each image (N, C, H, W) at random."""
    count, channels, height, width = images.shape
    padded = F.pad(images, (workload.PADDING,) * 4).flatten()
    tall, wide = height + 2 * workload.PADDING, width + 2 * workload.PADDING
    down, right = torch.randint(2 * workload.PADDING + 1, (2, count))
    # where each row of each crop begins in the flat padded batch; copying whole rows is far quicker than pixels
    starts = (torch.arange(count) * (channels * tall * wide) + down * wide + right)[:, None, None]
    starts = starts + torch.arange(channels)[:, None] * (tall * wide) + torch.arange(height) * wide
    windows = padded.as_strided((padded.numel() - width + 1, width), (1, 1))
    cropped = windows.index_select(0, starts.flatten()).view_as(images)
    chosen = torch.arange(count) + count * torch.randint(2, (count,))
    return torch.cat((cropped, cropped.flip(3))).index_select(0, chosen)
