"""The floor: replay written out as a bare torch loop, as fast as we know to write it in plain torch.

All data lie in one uint8 tensor, the memory is a tensor of row numbers, crops and flips are whole-batch selections of
rows, convolutions have their channels last, the optimiser is torch's fused SGD. Nothing is recorded and nothing can be
configured.

    python benchmarks/floor.py NETWORK DATA
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import networks
import torch
import torch.nn.functional as F
import workload
from probe import Probe
from torch import Tensor


class Floor:
    """Data, network and memory of the bare loop."""

    def __init__(self, network: str, data: workload.Data) -> None:
        arrival = torch.empty(workload.CLASSES, dtype=torch.int64)
        arrival[torch.tensor(workload.class_order())] = torch.arange(workload.CLASSES)
        self.images, self.test_images = torch.from_numpy(data.train_images), torch.from_numpy(data.test_images)
        self.labels, self.test_labels = (arrival[torch.from_numpy(y)] for y in (data.train_labels, data.test_labels))
        self.memory = torch.empty(0, dtype=torch.int64)
        self.network = networks.build(network).to(memory_format=torch.channels_last)
        std = torch.tensor(workload.STD).view(1, 3, 1, 1)
        self.scale, self.shift = 1 / (255 * std), -torch.tensor(workload.MEAN).view(1, 3, 1, 1) / std

    def learn(self, index: int) -> None:
        """Take one pass over the classes of experience ``index``, then choose exemplars."""
        seen = (index + 1) * workload.CLASSES_EACH
        rows = ((self.labels >= seen - workload.CLASSES_EACH) & (self.labels < seen)).nonzero()[:, 0]
        optimizer = torch.optim.SGD(
            self.network.parameters(),
            lr=workload.LEARNING_RATE,
            momentum=workload.MOMENTUM,
            weight_decay=workload.WEIGHT_DECAY,
            fused=True,
        )
        self.network.train()
        for new in rows[torch.randperm(len(rows))].split(workload.BATCH):
            exemplars = self.memory[torch.randperm(len(self.memory))[: workload.REPLAYED]]
            batch = torch.cat((new, exemplars))
            images = self.normalised(augmented(self.images.index_select(0, batch)))
            optimizer.zero_grad()
            F.cross_entropy(self.network(images)[:, :seen], self.labels[batch]).backward()
            optimizer.step()
        self.choose_exemplars(rows, seen)

    def choose_exemplars(self, rows: Tensor, seen: int) -> None:
        """Keep as many of each class seen so far, at random."""
        pool = torch.cat((self.memory, rows[torch.randperm(len(rows))]))
        quota = workload.MEMORY // seen
        self.memory = torch.cat([pool[self.labels[pool] == label][:quota] for label in range(seen)])

    @torch.no_grad()
    def accuracy(self, index: int) -> float:
        """Percent of the test images of experiences 0 to ``index`` that are answered rightly."""
        seen = (index + 1) * workload.CLASSES_EACH
        rows = (self.test_labels < seen).nonzero()[:, 0]
        self.network.eval()
        right = torch.zeros((), dtype=torch.int64)
        for batch in rows.split(workload.EVALUATION_BATCH):
            logits = self.network(self.normalised(self.test_images.index_select(0, batch)))[:, :seen]
            right += (logits.argmax(1) == self.test_labels[batch]).sum()
        return 100 * int(right) / len(rows)

    def normalised(self, images: Tensor) -> Tensor:
        """From uint8 to float32 (N, C, H, W)."""
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


def main(network: str, data: Path) -> workload.Result:
    probe = Probe()
    torch.manual_seed(workload.SEED)
    floor = Floor(network, workload.Data.load(data))
    training = evaluation = accuracy = 0.0
    for index in range(workload.EXPERIENCES):
        begun = time.process_time()
        floor.learn(index)
        learnt = time.process_time()
        accuracy = floor.accuracy(index)
        training += learnt - begun
        evaluation += time.process_time() - learnt
    return probe.result(training, evaluation, accuracy)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2])).print()
