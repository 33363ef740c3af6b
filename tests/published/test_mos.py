"""Published numbers of MOS, to be met with the published weights: `pytest -m published`, on a GPU, for about an hour.

Needs CIFAR-100 and, in the cache of the Hugging Face hub, timm's ``vit_base_patch16_224.augreg_in21k``.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from clbench import engine
from clbench.errors import ClbenchError
from clbench.metrics import METRICS
from clbench.models.config import ModelConfig
from clbench.models.timm_backbone import published_weights
from clbench.record import Part, Phase, Selection
from clbench.run import Run, resolved_model
from clbench.scenario import scenarios
from clbench.strategies.mos import Merge
from clbench.strategy import strategies
from tests.test_reported import curves, one

NAME = "vit_base_patch16_224.augreg_in21k"


@pytest.mark.published
def test_the_reference_lands_within_half_a_point_of_cifar_b0_inc5(tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    scenario = scenarios.load("cifar224")[1](increment=5)
    strategy = strategies.load("mos")[1](merge=Merge.REFERENCE, amp=False)
    run = Run(
        scenario=scenario,
        strategy=strategy,
        model=resolved_model(ModelConfig(), scenario, strategy),
        seed=1993,
        phase=Phase.EVALUATION,
        part=Part.WHOLE,
        selection=Selection(by="given"),
        protocol="single",
        device="cuda",
        output=tmp_path,
    )
    try:
        published_weights(NAME)
        scenarios.build(scenario, None, "cuda").check(Part.WHOLE)
    except ClbenchError as error:
        pytest.skip(str(error))
    record = engine.execute(run)
    reported = curves()["log of cifar224 B0 Inc5 IN21K"]
    for name in ("average_incremental_accuracy", "last_accuracy"):
        assert METRICS[name].function(record) == pytest.approx(one(reported, name), abs=0.5)
