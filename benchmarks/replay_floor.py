"""Replay's floor: the same written out by hand as a fast bare torch loop.

All data lie in one uint8 tensor, the memory is a tensor of row numbers, crops and flips are whole-batch selections of
rows, convolutions have their channels last, the optimiser is torch's fused SGD. Nothing is recorded and nothing can be
configured. It is what a careful user would write, not the least that is possible: its images lie plane by plane, as its
file has them, where clbench's lie channels last, for which a batch costs less.

    python benchmarks/replay_floor.py {tiny,slim,vit} FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import networks
import torch
import torch.nn.functional as F
import workload
from floor_images import Images
from probe import Probe
from torch import Tensor


class Floor:
    """Data, network and memory of the bare loop."""

    def __init__(self, network: str, data: workload.Data) -> None:
        self.data = Images(data)
        self.memory = torch.empty(0, dtype=torch.int64)
        self.network = networks.build(network).to(memory_format=torch.channels_last)

    def learn(self, index: int) -> None:
        """Take one pass over the classes of experience ``index``, then choose exemplars."""
        seen = (index + 1) * workload.CLASSES_EACH
        rows = self.data.rows(index)
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
            logits = self.network(self.data.augmented(batch))[:, :seen]
            optimizer.zero_grad()
            F.cross_entropy(logits, self.data.labels[batch]).backward()
            optimizer.step()
        self.choose_exemplars(rows, seen)

    def choose_exemplars(self, rows: Tensor, seen: int) -> None:
        """Keep as many of each class seen so far, at random."""
        pool = torch.cat((self.memory, rows[torch.randperm(len(rows))]))
        quota = workload.MEMORY // seen
        labels = self.data.labels[pool]
        self.memory = torch.cat([pool[labels == label][:quota] for label in range(seen)])

    def accuracy(self, index: int) -> float:
        """Percent of the test images of experiences 0 to ``index`` that are answered rightly."""
        self.network.eval()
        seen = (index + 1) * workload.CLASSES_EACH
        return self.data.accuracy(lambda images: self.network(images)[:, :seen].argmax(1), index)


def main(network: str, folder: Path) -> workload.Result:
    probe = Probe()
    torch.manual_seed(workload.SEED)
    floor = Floor(network, workload.Data.load(folder))
    return probe.measure(range(workload.EXPERIENCES), floor.learn, floor.accuracy)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2])).print()
