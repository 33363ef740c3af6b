from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from clbench import engine, record
from clbench.errors import ClbenchError, DataError
from clbench.record import ProbeMeasurement
from tests.runs import make


def test_no_partial_file_stays_behind_when_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "record.json"
    record.write_atomically(target, b"old")
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        record.write_atomically(target, b"new")
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]


def test_records_survive_the_round_trip_and_refuse_what_they_do_not_know(tmp_path: Path) -> None:
    found = engine.execute(make(tmp_path, "hft"))
    assert record.from_json(record.to_json(found)) == found
    newer = json.loads(record.to_json(found)) | {"schema": record.SCHEMA + 1}
    with pytest.raises(ClbenchError, match="Upgrade clbench"):
        record.from_json(json.dumps(newer))
    with pytest.raises(ClbenchError, match="not a clbench record"):
        record.from_json("{}")


def test_old_records_are_migrated_on_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = engine.execute(make(tmp_path))
    old = json.loads(record.to_json(found)) | {"schema": 0}
    old["method"] = old.pop("strategy")

    def migrate(raw: dict[str, object]) -> dict[str, object]:
        return {("strategy" if key == "method" else key): value for key, value in raw.items()}

    monkeypatch.setitem(record.MIGRATIONS, 0, migrate)
    assert record.from_json(json.dumps(old)) == found


def test_records_from_before_the_transform_was_written_down_are_read(tmp_path: Path) -> None:
    found = engine.execute(make(tmp_path))
    assert found.transform.startswith("ImageTransform(mean=(0.286,)")
    old = json.loads(record.to_json(found)) | {"schema": 1}
    del old["transform"]
    assert record.from_json(json.dumps(old)) == replace(found, transform="")


def test_records_from_before_language_models_stand_beside_newer_ones(tmp_path: Path) -> None:
    found = engine.execute(make(tmp_path))
    old = json.loads(record.to_json(found)) | {"schema": 2}
    del old["probes"]
    for field in ("dtype", "gradient_checkpointing", "adapter"):
        del old["model_config"][field]
    assert record.from_json(json.dumps(old)) == found
    probed = replace(found, probes=(ProbeMeasurement(0, "facts", "accuracy", 3.5, 4),))
    assert record.from_json(record.to_json(probed)) == probed


def test_records_from_before_access_was_written_down_are_read(tmp_path: Path) -> None:
    found = engine.execute(make(tmp_path))
    assert found.access == "replay 200"
    old = json.loads(record.to_json(found)) | {"schema": 4}
    del old["access"]
    assert record.from_json(json.dumps(old)) == replace(found, access="")


def test_finding_records_counts_each_run_once_and_needs_a_folder(tmp_path: Path) -> None:
    engine.execute(make(tmp_path / "mine"))
    engine.execute(make(tmp_path / "yours"))
    assert len(list(record.find([tmp_path / "mine", tmp_path / "yours", tmp_path]))) == 1
    with pytest.raises(DataError, match="no folder"):
        list(record.find([tmp_path / "nowhere"]))
