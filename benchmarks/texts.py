"""The texts' workload: eight instruction tasks for the embedded language model, in words and as rows of token ids.

    python benchmarks/texts.py FOLDER SHARE

640 training and 50 test examples of each task (`clbench.scenarios.instructions`), a Llama of 0.2 million parameters,
AdamW, one epoch of batches of 16 per task. Answers are generated greedily and count where they match exactly: before
the first task on all tasks (a part of the whole process only), after each one on those learnt so far. ``TASK.json`` are
the words, which clbench reads; ``rows.npz`` are the rows that it makes of them, which the other arms begin with.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clbench.models.config import ModelConfig
from clbench.models.language import build_causal, tokenizer_of
from clbench.scenario import scenarios

MODEL = ModelConfig(name="pretrained_llama")
BATCH, LEARNING_RATE = 16, 1.5e-3
ASKED = 256  # answers that are generated at a time
TRAIN, TEST, LONGEST_ANSWER = 640, 50, 7
SEED = 0


def scenario(folder: Path) -> Any:
    """Config of clbench's scenario: the tasks in words."""
    _, config = scenarios.load("tasks")
    files = [str(path) for path in sorted(folder.glob("*.json"))]
    return config(files=files, template="{instruction}{input}=", max_answer=LONGEST_ANSWER)


def write(folder: Path, share: float) -> None:
    """Draw the tasks, always the same; ``share`` of their examples for a quick look."""
    from clbench.scenarios.instructions import TASKS, Style, task_examples

    for name in TASKS:
        found = task_examples(name, Style.PLAIN, SEED, round(TRAIN * share), round(TEST * share))
        parts = ([{"input": e.input, "output": e.references[0]} for e in examples] for examples in found)
        whole = dict(zip(("train", "test"), parts, strict=True)) | {"definition": found[0][0].instruction}
        (folder / f"{name}.json").write_text(json.dumps(whole))
    stream = scenarios.build(scenario(folder), folder, "cpu", MODEL).stream(SEED)
    first = stream.experiences[0]
    tables = {"train": first.train.source.columns, "test": first.test.source.columns}
    names = ("tokens", "prompt", "length", "label")
    arrays: dict[str, Any] = {f"{part}_{n}": tables[part][n].numpy() for part in tables for n in names}
    np.savez(folder / "rows.npz", **arrays)


@dataclass(frozen=True)
class Rows:
    """Rows ``BOS prompt answer EOS``, padded on the right: tokens (N, L) int64, and of each its lengths and task."""

    tokens: Tensor
    prompt: Tensor
    length: Tensor
    label: Tensor

    def of(self, first: int, last: int) -> Rows:
        """Those of tasks ``first`` to ``last``."""
        return self.take(((self.label >= first) & (self.label <= last)).nonzero()[:, 0])

    def take(self, numbers: Tensor) -> Rows:
        """Those numbered so, without what pads all of them."""
        length = self.length[numbers]
        tokens = self.tokens[numbers, : int(length.max())]
        return Rows(tokens, self.prompt[numbers], length, self.label[numbers])

    @property
    def answered(self) -> Tensor:
        """Where answers stand (N, L), EOS included."""
        place = torch.arange(self.tokens.shape[1])
        return (place >= self.prompt[:, None]) & (place < self.length[:, None])


def read(folder: Path) -> tuple[Rows, Rows]:
    """Rows to train on and rows to test on."""
    with np.load(folder / "rows.npz") as arrays:
        train, test = (
            Rows(*(torch.from_numpy(arrays[f"{part}_{n}"]).long() for n in ("tokens", "prompt", "length", "label")))
            for part in ("train", "test")
        )
    return train, test


def network() -> Any:
    """The network of transformers, with its weights."""
    return build_causal(MODEL, LONGEST_ANSWER).network


@torch.no_grad()
def accuracy(network: Any, rows: Rows) -> float:
    """Percent of the rows whose answers are generated as they are."""
    words = tokenizer_of(MODEL)
    network.eval()
    right = 0
    for numbers in torch.arange(len(rows.label)).split(ASKED):
        batch = rows.take(numbers)
        width = int(batch.prompt.max())
        place = torch.arange(width) - (width - batch.prompt[:, None])  # prompts end together
        asked = batch.tokens.gather(1, place.clamp_min(0)).masked_fill(place < 0, words.pad)
        made = network.generate(
            input_ids=asked,
            attention_mask=(place >= 0).long(),
            max_new_tokens=LONGEST_ANSWER,
            do_sample=False,
            eos_token_id=words.eos,
            pad_token_id=words.pad,
        )[:, width:]
        wanted = [row[mask] for row, mask in zip(batch.tokens, batch.answered, strict=True)]
        right += sum(torch.equal(said[: len(want)], want) for said, want in zip(made, wanted, strict=True))
    return 100 * right / len(rows.label)


if __name__ == "__main__":
    write(Path(sys.argv[1]), float(sys.argv[2]))
