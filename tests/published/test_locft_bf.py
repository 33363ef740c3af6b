"""Published numbers of LocFT-BF, to be met with published weights: `pytest -m published`, on a GPU, for an hour or so.

Needs ``edits/zsre_3k.json`` under ``CLBENCH_DATA`` and, in the cache of the Hugging Face hub, Qwen2.5-7B-Instruct.
All of it is float32, as the released code has it: about 40 GB of GPU memory.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from clbench import engine
from clbench.edits.located import Average, Pipeline
from clbench.edits.location import location_of
from clbench.errors import ClbenchError
from clbench.finetune import Optimizer, Schedule
from clbench.metrics import probe_scores, reliability
from clbench.models.config import ModelConfig
from clbench.models.language import tokenizer_of
from clbench.record import Part, Phase, Selection
from clbench.run import Run
from clbench.scenario import scenarios
from clbench.scenarios.edits import Origin
from clbench.strategies.locft_bf import Access
from clbench.strategy import strategies
from tests.language import deep_network

QWEN = "Qwen/Qwen2.5-7B-Instruct"
RELIABILITY, GENERALISATION = 98.87, 74.37  # arXiv 2509.22072 v4, table 3: ZsRE, Qwen2.5-7B, 3,000 edits
TOLERANCE = 2.0  # points; the authors draw the order of batches from no seed


def published(output: Path) -> Run:
    """Table 3's row, with the released settings of Qwen2.5-7B."""
    scenario = scenarios.load("edits")[1](source=Origin.ZSRE, edits=3000, per_experience=None, asked=None)
    strategy = strategies.load("locft_bf")[1](
        lr=5e-4,
        batch_size=100,
        epochs=25,
        optimizer=Optimizer.ADAM,
        schedule=Schedule.CONSTANT,
        weight_decay=0.0,
        amp=False,
    )
    return Run(
        scenario=scenario,
        strategy=strategy,
        model=ModelConfig(QWEN),
        seed=0,
        phase=Phase.EVALUATION,
        part=Part.WHOLE,
        selection=Selection(by="given"),
        protocol="single",
        device="cuda",
        output=output,
    )


def test_the_released_settings_are_what_would_be_run(tmp_path: Path) -> None:
    run = published(tmp_path)
    config, scenario = run.strategy, run.scenario
    assert (config.lr, config.batch_size, config.epochs, config.weight_decay) == (5e-4, 100, 25, 0.0)
    assert (config.optimizer, config.schedule, config.warmup, config.clip) == (
        Optimizer.ADAM,
        Schedule.CONSTANT,
        0,
        None,
    )
    assert (config.stop, config.average, config.pipeline) == (0.01, Average.SAMPLE, Pipeline.BREADTH_FIRST)
    assert (config.access, config.augment, config.accumulate, config.bucketed) == (Access.NO_REPLAY, 0, 1, False)
    assert not config.amp  # float32
    assert run.model.dtype.value == "float32"
    assert (scenario.source, scenario.edits, scenario.per_experience) == (Origin.ZSRE, 3000, None)
    assert (scenario.template, scenario.chat, scenario.max_answer) == ("{input}", False, 32)
    # The 28 blocks of Qwen2.5-7B.
    where = location_of(deep_network("qwen2", 28), config.layer, config.depth, config.module)
    assert where == "model.layers.6.mlp.down_proj.weight"
    assert config.location is None


@pytest.mark.published
def test_3000_edits_of_zsre_are_held_and_told_in_other_words_as_published(tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    run = published(tmp_path)
    try:
        tokenizer_of(run.model)
        scenarios.build(run.scenario, None, "cuda").check(Part.WHOLE)
    except ClbenchError as error:
        pytest.skip(str(error))
    record = engine.execute(run)
    assert reliability(record) == pytest.approx(RELIABILITY, abs=TOLERANCE)
    assert float(probe_scores(record, "generalisation")[-1]) == pytest.approx(GENERALISATION, abs=TOLERANCE)
