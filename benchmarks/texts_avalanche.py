"""Texts in Avalanche's hands: its Naive template over tokenised rows, which a function of ours pads to batches.

    python benchmarks/texts_avalanche.py texts FOLDER

Labels are -100 outside answers, as transformers has them. Avalanche does not generate: the answers are the floor's.
"""

from __future__ import annotations

import contextlib
import io
import sys
import warnings
from pathlib import Path
from typing import Any

import texts
import torch
import torch.nn.functional as F
import workload
from avalanche.benchmarks import benchmark_from_datasets, with_task_labels
from avalanche.benchmarks.utils import AvalancheDataset, ConstantSequence
from avalanche.benchmarks.utils.data_attribute import TaskLabels
from avalanche.evaluation.metrics import loss_metrics
from avalanche.logging import InteractiveLogger
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.supervised import Naive
from probe import Probe
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

IGNORED = -100  # a label that the cross-entropy leaves out


class Logits(nn.Module):
    """A network of transformers that gives its logits."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (N, L, V) of tokens (N, L)."""
        logits: Tensor = self.network(input_ids=tokens, use_cache=False).logits
        return logits


def padded(examples: list[tuple[Tensor, Tensor, int]]) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens (N, L), labels (N, L) and tasks (N,) of some rows."""
    tokens = pad_sequence([row[0] for row in examples], batch_first=True)
    labels = pad_sequence([row[1] for row in examples], batch_first=True, padding_value=IGNORED)
    return tokens, labels, torch.tensor([row[2] for row in examples])


def next_tokens(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy with the answers' tokens."""
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED)


class Sequences(torch.utils.data.Dataset[tuple[Tensor, Tensor]]):
    """Rows one by one, without padding; Avalanche asks the dataset for its ``collate_fn``."""

    collate_fn = staticmethod(padded)

    def __init__(self, rows: texts.Rows) -> None:
        self.rows, self.labels = rows, rows.tokens.masked_fill(~rows.answered, IGNORED)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        length = int(self.rows.length[index])
        return self.rows.tokens[index, :length], self.labels[index, :length]

    def __len__(self) -> int:
        return len(self.labels)


def dataset(rows: texts.Rows) -> AvalancheDataset:
    """Rows of one task."""
    found = Sequences(rows)
    return AvalancheDataset([found], data_attributes=[TaskLabels(ConstantSequence(0, len(found)))])


def strategy(network: Any) -> Naive:
    """With the losses of Avalanche's default evaluator; its accuracies are those of classes."""
    return Naive(
        model=Logits(network),
        optimizer=torch.optim.AdamW(network.parameters(), lr=texts.LEARNING_RATE, weight_decay=0.0, fused=True),
        criterion=next_tokens,
        train_mb_size=texts.BATCH,
        train_epochs=1,
        evaluator=EvaluationPlugin(
            loss_metrics(minibatch=True, epoch=True, experience=True, stream=True), loggers=[InteractiveLogger()]
        ),
    )


def main(folder: Path) -> workload.Result:
    warnings.simplefilter("ignore")
    probe = Probe()
    torch.manual_seed(texts.SEED)
    train, test = texts.read(folder)
    tasks = range(int(train.label.max()) + 1)
    bare = benchmark_from_datasets(train=[dataset(train.of(task, task)) for task in tasks])
    stream = with_task_labels(bare).train_stream  # without, its loaders forget how rows are put together
    network = texts.network()
    learner = strategy(network)
    texts.accuracy(network, test)
    return probe.measure(
        tasks,
        lambda task: learner.train(stream[task], num_workers=0, reset_optimizer_state=True),
        lambda task: texts.accuracy(network, test.of(0, task)),
    )


if __name__ == "__main__":
    with contextlib.redirect_stdout(io.StringIO()):  # its progress bars
        measured = main(Path(sys.argv[2]))
    measured.print()
