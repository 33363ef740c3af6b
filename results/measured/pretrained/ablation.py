"""What each part of MOS is worth, measured on the same trained learners after each experience.

    python results/measured/pretrained/ablation.py cifar_first_half.safetensors > ablation.csv

Learns the study's stream (CIFAR-100's second half in experiences of 10 classes) once per mode of merging and seed. One
line for each experience learnt, in percent of the test images seen so far:

accuracy               of MOS
no_ensemble            of the head alone, under the adapters that were chosen
no_retrieval           with the first adapters for every image
nearest_mean           of the class means under the first adapters alone
routed_0 .. routed_3   images sent to their own task: by the nearest mean, then after each refinement
distance               of the newest adapters from the first, relative to the length of the first; not in percent
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from clbench.engine import learn
from clbench.models.config import ModelConfig
from clbench.opening import build_strategy, open_stream
from clbench.record import Part, Phase, Selection
from clbench.run import Run
from clbench.scenario import Stream, scenarios
from clbench.strategies.mos import MOS, Merge
from clbench.strategy import strategies

SETTINGS = {"epochs": 5, "rank": 8, "align_epochs": 10, "align_samples": 64}
COLUMNS = ("accuracy", "no_ensemble", "no_retrieval", "nearest_mean", "routed_0", "routed_1", "routed_2", "routed_3")


def run_of(weights: Path, merge: Merge, seed: int) -> Run:
    """A run of the study."""
    return Run(
        scenario=scenarios.load("cifar100")[1](increment=10, train_per_class=60),
        strategy=strategies.load("mos")[1](merge=merge, **SETTINGS),
        model=ModelConfig("small_vit", weights, width=128),
        seed=seed,
        phase=Phase.EVALUATION,
        part=Part.EVALUATION_HALF,
        selection=Selection(by="given"),
        protocol="single",
        device="cpu",
        output=Path("runs"),
    )


def measured(learner: MOS, stream: Stream, after: int) -> list[float]:
    """`COLUMNS`, in percent of the test images of the first ``after`` experiences."""
    config, plain = learner.config, replace(learner.config, refinements=0)
    right, count = torch.zeros(len(COLUMNS), dtype=torch.int64), 0
    for experience in stream.experiences[:after]:
        for batch in experience.test.batches(256):
            shown, label = {"image": batch["image"]}, batch["label"]
            near, logits, tasks = learner.answer(shown)
            tasks += tasks[-1:] * (4 - len(tasks))
            learner.config = plain
            first = learner.answer(shown).logits
            learner.config = config

            def both(head: Tensor, near: Tensor = near) -> Tensor:
                return (head.softmax(1) + (after * near).softmax(1)).argmax(1)

            answers = [both(logits), logits.argmax(1), both(first), near.argmax(1)]
            hits = [(a == label).sum() for a in answers] + [(t == experience.index).sum() for t in tasks]
            right, count = right + torch.stack(hits), count + len(label)
    return [100 * int(n) / count for n in right]


def main() -> None:
    """Print CSV."""
    torch.set_num_threads(1)
    print(",".join(("merge", "seed", "after", *COLUMNS, "distance")), flush=True)
    for seed in range(3):
        for merge in (Merge.TASK_END, Merge.NONE, Merge.REFERENCE, Merge.STEP):
            run = run_of(Path(sys.argv[1]), merge, seed)
            stream = open_stream(run)
            learner = build_strategy(run, stream)
            assert isinstance(learner, MOS)
            for experience in stream.experiences:
                learn(learner, experience)
                values = [f"{value:.2f}" for value in measured(learner, stream, experience.index + 1)]
                distance = learner.notes()["distance_from_first_adapters"]
                line = (merge.value, str(seed), str(experience.index + 1), *values, f"{distance:.5f}")
                print(",".join(line), flush=True)


if __name__ == "__main__":
    main()
