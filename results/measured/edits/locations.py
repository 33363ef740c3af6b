"""Where to edit the embedded model: every block and part, on edits of the tuning half, which are never reported.

    python results/measured/edits/locations.py > results/measured/edits/locations.csv

100 edits at once, batches of 10, at most 60 epochs; three samples. The rule of LocFT-BF (arXiv 2509.22072, section 3):
among the locations with near-perfect reliability the highest capability, then generalisation. Capabilities within half
a point are equal here, which is less than samples differ by.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import torch

from clbench import metrics
from clbench.config import jobs
from clbench.edits.location import Module
from clbench.engine import execute
from clbench.record import Part, Phase, Selection
from clbench.run import Run, resolved_model

SEEDS = (100, 101, 102)
SLOW = (Module.MLP, Module.ATTENTION, Module.LAYER)  # a quarter of the rate, for they are coarser


def main() -> None:
    """One row per location, means over the samples."""
    torch.set_num_threads(1)
    out = csv.writer(sys.stdout, lineterminator="\n")
    probes = ("generalisation", "locality_near", "locality_far", "capability")
    out.writerow(("layer", "module", "lr", "reliability", *probes, "editing_score"))
    for layer in range(4):
        for module in (Module.DOWN, Module.UP, *SLOW):
            rate = 0.0005 if module in SLOW else 0.002
            runs = [execute(_run(layer, module, rate, seed)) for seed in SEEDS]
            figures = [[metrics.reliability(r), *(float(metrics.probe_scores(r, p)[-1]) for p in probes)] for r in runs]
            scores = [metrics.editing_score(r) for r in runs]
            means = [sum(column) / len(runs) for column in zip(*figures, strict=True)]
            row = (layer, module.value, rate, *(f"{m:.1f}" for m in means), f"{sum(scores) / len(scores):.1f}")
            out.writerow(row)
            sys.stdout.flush()


def _run(layer: int, module: Module, rate: float, seed: int) -> Run:
    words = ["scenario=edits", "scenario.per_experience=null", "strategy=locft_bf", "strategy.epochs=60"]
    words += [f"strategy.layer={layer}", f"strategy.module={module.value}", f"strategy.lr={rate}"]
    (job,) = jobs(words)
    config = job.config
    return Run(
        scenario=config.scenario,
        strategy=config.strategy,
        model=resolved_model(config.model, config.scenario, config.strategy),
        part=Part.TUNING_HALF,
        phase=Phase.TUNING,
        selection=Selection(by="tuning"),
        protocol="single",
        seed=seed,
        device="cpu",
        output=Path("locations"),
    )


if __name__ == "__main__":
    main()
