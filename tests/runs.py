"""Small runs of the engine, here and in other processes, and what of their records must not change."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

from clbench import record
from clbench.models.config import EMBEDDED_CAUSAL, AdapterConfig, ModelConfig
from clbench.protocol import Study, evaluation_run
from clbench.record import Part, Record, Selection, Setting, Status
from clbench.run import Run
from clbench.scenario import scenarios
from clbench.space import starts
from clbench.strategy import strategies

ROOT = Path(__file__).parent.parent
SCRIPT = """
import pickle, sys, torch
from clbench import engine
torch.set_num_threads(1)
engine.execute(pickle.loads(bytes.fromhex(sys.argv[1])))
"""


def make(folder: Path, name: str = "replay", setting: Setting = Setting.CLASS_INCREMENTAL, **values: object) -> Run:
    _, scenario = scenarios.load("digits")
    _, config = strategies.load(name)
    values = {"epochs": 2} | values
    study = Study(scenario(setting=setting), config(**values), ModelConfig("small_cnn", width=4), "cpu", folder)
    return evaluation_run(study, "single", 0, Part.WHOLE, Selection(by="given"))


def make_texts(folder: Path, name: str = "naive", adapter: AdapterConfig | None = None, **values: object) -> Run:
    """Four tasks on letters and digits with few examples, for the embedded language model."""
    (source, scenario), (_, config) = scenarios.load("instructions"), strategies.load(name)
    values = starts(config, source.training) | {"lr": 5e-3} | values
    model = ModelConfig(EMBEDDED_CAUSAL, adapter=adapter or AdapterConfig())
    study = Study(scenario(train_per_task=48, test_per_task=8), config(**values), model, "cpu", folder)
    return evaluation_run(study, "single", 0, Part.EVALUATION_HALF, Selection(by="given"))


def finished(run: Run) -> Record:
    found = record.read(run.folder)
    assert found is not None
    assert found.status is Status.FINISHED
    return found


def result(found: Record) -> tuple[object, ...]:
    """All of a record that must not depend on when and how fast it was computed."""
    bytes_stored = [cost.stored_bytes for cost in found.costs]
    measured = found.measurements, found.probes
    return found.run, found.status, measured, found.state_digest, found.data_digest, found.notes, bytes_stored


def start(run: Run) -> subprocess.Popen[bytes]:
    import pickle

    return subprocess.Popen([sys.executable, "-c", SCRIPT, pickle.dumps(run).hex()], cwd=ROOT)


def answers_kept(run: Run) -> dict[str, dict[str, object]]:
    return {
        path.name: json.loads(gzip.decompress(path.read_bytes()))
        for path in sorted((run.folder / "generations").iterdir())
    }
