from __future__ import annotations

import json
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from clbench import engine, record
from clbench.errors import CheckpointError, IncompatibleError, LeakError
from clbench.models.config import AdapterConfig, ModelConfig, Routing
from clbench.record import Record, Setting, Status
from clbench.run import Run
from clbench.scenario import scenarios
from clbench.strategy import strategies
from tests.learning import skip_without_package
from tests.runs import answers_kept, finished, make_texts, result, start


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run on texts that is finished."""
    run = make_texts(tmp_path_factory.mktemp("texts"))
    engine.execute(run)
    return run


def test_texts_are_asked_and_abilities_probed_before_and_after_each_experience(texts: Run) -> None:
    found = finished(texts)
    assert found.setting is Setting.INSTRUCTION
    asked = [(t, j) for t in range(5) for j in range(t or 4)]  # before any training about all
    assert [(m.after, m.experience) for m in found.measurements] == asked
    assert {m.total for m in found.measurements} == {8}
    names = [("facts", "accuracy"), ("skills", "accuracy"), ("pretraining_answers", "log_likelihood")]
    assert [(p.after, p.probe, p.unit) for p in found.probes] == [(t, *kind) for t in range(5) for kind in names]
    assert record.from_json(record.to_json(found)) == found
    totals = {kind: [p.total for p in found.probes if p.probe == kind] for kind, _ in names}
    assert totals["facts"][0] > 0.9 * 120
    assert totals["pretraining_answers"][-1] < totals["pretraining_answers"][0] < 0  # naive training forgets
    assert {"transformers", "tokenizers", "peft"} <= found.environment.packages.keys()


def test_answers_are_kept_to_be_read_with_how_they_came_about(texts: Run) -> None:
    found, kept = finished(texts), answers_kept(texts)
    assert list(kept) == [f"after_{t}.json.gz" for t in range(5)]
    for after, said in enumerate(kept.values()):
        assert said["decoding"] == {"method": "greedy", "max_new_tokens": 7}
        assert said["template"] == "{instruction}{input}="
        rows = said["answers"]
        assert isinstance(rows, list)
        asked = after or 4
        assert [row["experience"] for row in rows] == [e.name for e in found.experiences[:asked] for _ in range(8)]
        right = [sum(row["answer"] == row["reference"] for row in rows[8 * j : 8 * j + 8]) for j in range(asked)]
        assert right == [m.correct for m in found.measurements if m.after == after]


@pytest.mark.parametrize(("name", "routing"), [("lora", Routing.NEAREST), ("olora", Routing.NONE)])
def test_a_run_on_texts_that_is_stopped_goes_on_with_the_same_bits(
    tmp_path: Path, name: str, routing: Routing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scenarios.load("instructions")[0], "probes", lambda *_: ())  # they take longest
    whole, run = (make_texts(tmp_path / o, name, AdapterConfig(rank=4, routing=routing)) for o in ("whole", "stopped"))
    wanted, write = result(engine.execute(whole)), record.write

    def dies(folder: Path, found: Record) -> None:
        if found.learnt == 2:
            (folder / "generations" / "after_2.json.gz.partial").write_bytes(b"half a file")
            raise KeyboardInterrupt
        write(folder, found)

    with monkeypatch.context() as patch:
        patch.setattr(record, "write", dies)
        with pytest.raises(KeyboardInterrupt):
            engine.execute(run)
    assert result(engine.execute(run)) == wanted
    assert not list(run.folder.rglob("*.partial"))
    assert answers_kept(run) == answers_kept(whole)


def test_a_run_on_texts_that_is_killed_goes_on_with_the_same_bits(texts: Run, tmp_path: Path) -> None:
    run = replace(texts, output=tmp_path)
    process = start(run)
    while process.poll() is None:
        found = record.read(run.folder)
        if found is not None and found.learnt >= 2:
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.01)
    process.wait()
    stopped = record.read(run.folder)
    assert stopped is not None
    assert stopped.status is Status.RUNNING
    assert start(run).wait() == 0
    assert result(finished(run)) == result(finished(texts))
    assert answers_kept(run) == answers_kept(texts)


@pytest.mark.parametrize("name", ["mos", "simplecil", "icarl", "avalanche"])
def test_a_strategy_for_images_does_not_open_a_stream_of_texts(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    skip_without_package(name)
    run = make_texts(tmp_path)
    _, config = strategies.load(name)
    scenario, _ = scenarios.load("instructions")
    monkeypatch.setattr(scenario, "stream", lambda *_: 1 / 0)
    message = rf"^strategy {name} learns images only, and instructions is a stream of texts$"
    with pytest.raises(IncompatibleError, match=message):
        engine.execute(replace(run, strategy=config()))


def test_weights_that_were_trained_on_a_reported_task_are_refused(tmp_path: Path) -> None:
    from tests.language import folder

    folder(tmp_path / "model")
    (tmp_path / "model" / "clbench.json").write_text(json.dumps({"class_ids": ["instructions/swap", "other/shift"]}))
    run = replace(make_texts(tmp_path), model=ModelConfig(str(tmp_path / "model")))
    with pytest.raises(LeakError, match=r"was trained on 1 of the 4 classes that this run reports \(instructions/swap"):
        engine.execute(run)
    (tmp_path / "model" / "clbench.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"clbench\.json is no certificate"):
        engine.execute(run)
