"""The adapters' floor: EASE as a bare torch loop over data in one tensor.

python benchmarks/adapters_floor.py adapters FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import adapters
import torch
import torch.nn.functional as F
import workload
from floor_images import Images
from probe import Probe


class Floor:
    """Data and network of the bare loop."""

    def __init__(self, data: workload.Data) -> None:
        self.data, self.network = Images(data), adapters.Ease()

    def learn(self, index: int) -> None:
        """Train adapters and a head on experience ``index``, then take its means."""
        rows, labels = self.data.rows(index), self.data.labels
        optimizer = self.network.begin()
        self.network.train()
        for _ in range(adapters.EPOCHS):
            for batch in rows[torch.randperm(len(rows))].split(adapters.BATCH):
                optimizer.zero_grad()
                F.cross_entropy(self.network(self.data.augmented(batch)), labels[batch]).backward()
                optimizer.step()
        self.network.end((self.data.plain(part), labels[part]) for part in rows.split(workload.EVALUATION_BATCH))

    def accuracy(self, index: int) -> float:
        """Percent of the test images of experiences 0 to ``index`` that are answered rightly."""
        self.network.eval()
        return self.data.accuracy(lambda images: self.network(images).argmax(1), index)


def main(folder: Path) -> workload.Result:
    probe = Probe()
    torch.manual_seed(workload.SEED)
    floor = Floor(workload.Data.load(folder))
    return probe.measure(range(workload.EXPERIENCES), floor.learn, floor.accuracy)


if __name__ == "__main__":
    main(Path(sys.argv[2])).print()
