"""How often MOS sends a test image to its own task: by the nearest mean, and after each refinement.

    python results/measured/pretrained/retrieval.py cifar_first_half.safetensors > retrieval.csv

Learns the study's stream (CIFAR-100's second half in experiences of 10 classes) once per mode of merging and seed, and
asks all test images at the end.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from clbench.engine import build_strategy, learn, open_stream
from clbench.models.config import ModelConfig
from clbench.record import Part, Phase, Selection
from clbench.run import Run
from clbench.scenario import scenarios
from clbench.strategies.mos import MOS, Merge
from clbench.strategy import strategies

SETTINGS = {"epochs": 5, "rank": 8, "align_epochs": 10, "align_samples": 64}


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


def shares(run: Run) -> list[float]:
    """Percent of test images sent to their own task: at first, then after each refinement."""
    stream = open_stream(run)
    learner = build_strategy(run, stream)
    assert isinstance(learner, MOS)
    for experience in stream.experiences:
        learn(learner, experience)
    right = torch.zeros(run.strategy.refinements, dtype=torch.int64)
    count = 0
    for experience in stream.experiences:
        for batch in experience.test.batches(256):
            tasks = learner.answer({"image": batch["image"]}).tasks
            tasks += tasks[-1:] * (len(right) - len(tasks))
            right += torch.stack([(task == experience.index).sum() for task in tasks])
            count += len(batch["image"])
    return [100 * int(n) / count for n in right]


def main() -> None:
    """Print one line of CSV per mode and seed."""
    torch.set_num_threads(1)
    print("merge,seed,nearest mean,refined once,refined twice,refined three times", flush=True)
    for merge in (Merge.NONE, Merge.TASK_END, Merge.STEP, Merge.REFERENCE):
        for seed in range(3):
            found = shares(run_of(Path(sys.argv[1]), merge, seed))
            print(",".join([merge.value, str(seed), *(f"{share:.2f}" for share in found)]), flush=True)


if __name__ == "__main__":
    main()
