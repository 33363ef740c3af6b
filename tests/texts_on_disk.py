"""Small text tasks on disk, in the layouts of the published suites, and models that read them."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from clbench.edits import world
from clbench.models.config import EMBEDDED_CAUSAL, ModelConfig

SHORT: dict[str, Any] = {"max_answer": 12, "template": "{instruction}\n{input}="}
"""Values of a config that fit the embedded model, which looks at 128 characters."""

EMBEDDED = ModelConfig(EMBEDDED_CAUSAL)


def write(path: Path, value: Any) -> Path:
    """A JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    return path


def rows(name: str, count: int, question: str = "input", answer: str = "output") -> list[dict[str, Any]]:
    """Questions that tell which task they belong to, and answers."""
    return [{question: f"{name[:12]} {n}", answer: f"answer {n}"} for n in range(count)]


def make_files(folder: Path, names: Sequence[str], train: int = 20, test: int = 4) -> Path:
    """A file per task with definition, train and test."""
    for name in names:
        questions = rows(name, train + test)
        task = {"definition": [f"do {name[:12]}"], "train": questions[:train], "test": questions[train:]}
        write(folder / f"{name}.json", task)
    return folder


def make_folders(folder: Path, names: Sequence[str], train: int = 20, test: int = 4) -> Path:
    """A folder per task as SAPT has them: Definition and Instances in each part."""
    for name in names:
        questions = rows(name, train + test)
        for part, found in (("train", questions[:train]), ("dev", []), ("test", questions[train:])):
            write(folder / name / f"{part}.json", {"Definition": [f"do {name[:12]}"], "Instances": found})
    return folder


def make_trace(folder: Path, names: Sequence[str], train: int = 20, test: int = 4) -> Path:
    """A folder per task as TRACE has them: lists of prompt and answer."""
    for name in names:
        questions = rows(name, train + test, "prompt", "answer")
        for part, found in (("train", questions[:train]), ("eval", []), ("test", questions[train:])):
            write(folder / name / f"{part}.json", found)
    return folder


def make_edits(path: Path, people: int = 8) -> Path:
    """A file of edits of two facts of each of some people, in the fields of CounterFact's release."""
    known = [fact for fact in world.facts()[: 4 * people] if fact.relation.name in ("home", "pet")]
    records = [
        {
            "case_id": number,
            "prompt": fact.asked(0),
            "target_new": fact.relation.objects[number],
            "subject": fact.person,
            "ground_truth": fact.object,
            "rephrase_prompt": fact.asked(1),
            "locality_prompt": f"{world.people()[-1]} owns",
        }
        for number, fact in enumerate(known)
    ]
    return write(path, records)


def real_folder() -> Path:
    """Where real data are; the test is skipped where there are none."""
    if "CLBENCH_DATA" not in os.environ:
        pytest.skip("CLBENCH_DATA is not set")
    return Path(os.environ["CLBENCH_DATA"])


def real_suite(name: str) -> Path:
    """The folder of a real suite; the test is skipped where it is not there."""
    folder = real_folder() / "text" / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    return folder


def stories(folder: Path) -> ModelConfig:
    """stories260K, converted; the test is skipped where it is not there."""
    weights = real_folder() / "weights"
    if not (weights / "stories260K.pt").exists():
        pytest.skip(f"{weights / 'stories260K.pt'} is not there")
    from clbench.models.llama2c import convert

    convert(weights / "stories260K.pt", weights / "tok512.json", folder / "stories260K")
    return ModelConfig(str(folder / "stories260K"))
