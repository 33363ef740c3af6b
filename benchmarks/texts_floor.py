"""The texts' floor: fine-tuning a language model as a bare torch loop over tokenised rows in one tensor.

python benchmarks/texts_floor.py texts FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import texts
import torch
import torch.nn.functional as F
import workload
from probe import Probe


class Floor:
    """Rows and network of the bare loop."""

    def __init__(self, folder: Path) -> None:
        self.train, self.test = texts.read(folder)
        self.tasks = int(self.train.label.max()) + 1
        self.network = texts.network()

    def learn(self, task: int) -> None:
        """Take one pass over the rows of a task."""
        rows = self.train.of(task, task)
        optimizer = torch.optim.AdamW(self.network.parameters(), lr=texts.LEARNING_RATE, weight_decay=0.0, fused=True)
        self.network.train()
        for numbers in torch.randperm(len(rows.label)).split(texts.BATCH):
            batch = rows.take(numbers)
            first = int(batch.prompt.min())  # no answer begins earlier, so no logits are needed there
            kept = batch.tokens.shape[1] - first + 1
            logits = self.network(input_ids=batch.tokens, use_cache=False, logits_to_keep=kept).logits[:, :-1]
            answers = batch.answered[:, first:]
            optimizer.zero_grad()
            F.cross_entropy(logits[answers], batch.tokens[:, first:][answers]).backward()
            optimizer.step()

    def accuracy(self, task: int) -> float:
        """Percent of the tests of tasks 0 to ``task`` that are answered rightly."""
        return texts.accuracy(self.network, self.test.of(0, task))


def main(folder: Path) -> workload.Result:
    probe = Probe()
    torch.manual_seed(texts.SEED)
    floor = Floor(folder)
    texts.accuracy(floor.network, floor.test)
    return probe.measure(range(floor.tasks), floor.learn, floor.accuracy)


if __name__ == "__main__":
    main(Path(sys.argv[2])).print()
