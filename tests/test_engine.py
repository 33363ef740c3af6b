from __future__ import annotations

import gzip
import json
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from clbench import engine, examination, record
from clbench.digest import state_digest
from clbench.errors import CheckpointError, ClbenchError, DataError, IncompatibleError, LeakError, ResourceError
from clbench.models.config import EMBEDDED_CAUSAL, AdapterConfig, ModelConfig, Routing
from clbench.parallel import Peers
from clbench.protocol import Study, evaluation_run
from clbench.record import Part, ProbeMeasurement, Record, Selection, Setting, Status
from clbench.run import Run, weights_of
from clbench.scenario import scenarios
from clbench.space import starts
from clbench.strategy import strategies
from tests.learning import skip_without_package

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


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run on texts that is finished."""
    run = make_texts(tmp_path_factory.mktemp("texts"))
    engine.execute(run)
    return run


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


def test_a_run_leaves_a_whole_record(tmp_path: Path) -> None:
    found = engine.execute(make(tmp_path))
    assert found.status is Status.FINISHED
    assert record.read(make(tmp_path).folder) == found
    assert [(m.after, m.experience) for m in found.measurements] == [(t, j) for t in range(1, 6) for j in range(t)]
    assert sum(e.train for e in found.experiences) == 1437
    assert sum(m.total for m in found.measurements if m.after == 5) == 360
    assert found.environment.packages["torch"] == torch.__version__
    assert all(cost.learn_seconds > 0 and cost.stored_bytes > 0 and cost.peak_bytes for cost in found.costs)
    assert sorted(path.name for path in make(tmp_path).folder.iterdir()) == ["lock", "record.json"]


def test_a_task_incremental_run_measures_all_experiences_before_and_after(tmp_path: Path) -> None:
    found = engine.execute(make(tmp_path, setting=Setting.TASK_INCREMENTAL))
    assert [(m.after, m.experience) for m in found.measurements] == [(t, j) for t in range(6) for j in range(5)]


def answers_kept(run: Run) -> dict[str, dict[str, object]]:
    return {
        path.name: json.loads(gzip.decompress(path.read_bytes()))
        for path in sorted((run.folder / "generations").iterdir())
    }


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


def test_of_many_answers_few_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.learning import instructions, strategy

    monkeypatch.setattr(examination, "KEPT", 3)
    monkeypatch.setattr(examination, "BATCH", 5)
    stream = instructions().stream(0)
    measured, kept = examination.examine(strategy("naive", stream), stream, 0)
    assert [m.total for m in measured] == [8] * 8
    assert [row["experience"] for row in kept] == [e.name for e in stream.experiences for _ in range(3)]
    shown = [
        stream.answers.transcript(torch.zeros(3, 1, dtype=torch.int64), b)
        for e in stream.experiences
        for b in [next(e.test.batches(3))]
    ]
    assert [row["input"] for row in kept] == [row["input"] for rows in shown for row in rows]


def test_a_record_says_which_paths_its_kernels_took(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted, write = {"ema_merge_": ["torch: on cpu"], "replay_gather": ["torch: on cpu"]}, record.write

    def dies(folder: Path, found: Record) -> None:
        write(folder, found)
        if found.learnt == 2:
            raise KeyboardInterrupt

    run = make(tmp_path, "coin", epochs=1)
    with monkeypatch.context() as patch:
        patch.setattr(record, "write", dies)
        with pytest.raises(KeyboardInterrupt):
            engine.execute(run)
    monkeypatch.setenv("CLBENCH_KERNELS", "torch")  # from here on
    assert engine.execute(run).notes["kernels"] == {
        name: ["torch: asked for", *paths] for name, paths in wanted.items()
    }
    monkeypatch.delenv("CLBENCH_KERNELS")
    assert engine.execute(make(tmp_path, epochs=1)).notes == {"kernels": {"replay_gather": ["torch: on cpu"]}}


def test_images_have_neither_probes_nor_answers_to_read(tmp_path: Path) -> None:
    run = make(tmp_path)
    assert engine.execute(run).probes == ()
    assert not (run.folder / "generations").exists()


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


@pytest.mark.parametrize("name", ["lora", "lora_merge", "olora"])
def test_a_strategy_for_texts_does_not_open_a_stream_of_images(tmp_path: Path, name: str) -> None:
    _, config = strategies.load(name)
    with pytest.raises(
        IncompatibleError, match=rf"^strategy {name} learns texts only, and digits is a stream of images$"
    ):
        engine.execute(replace(make(tmp_path), strategy=config()))


def test_a_language_model_is_known_by_its_files(tmp_path: Path) -> None:
    from tests.language import folder

    folder(tmp_path / "model")
    (tmp_path / "small_cnn").mkdir()  # no language model: a name of ours
    run = replace(make_texts(tmp_path), model=ModelConfig(str(tmp_path / "model")))
    first = run.identity
    assert replace(run).identity == first
    folder(tmp_path / "model", seed=1)
    assert replace(run).identity != first
    assert weights_of(ModelConfig(str(tmp_path / "small_cnn"))) is None


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


def test_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    first = engine.execute(make(tmp_path))
    before = (make(tmp_path).folder / "record.json").stat().st_mtime_ns
    assert engine.execute(make(tmp_path)) == first
    assert (make(tmp_path).folder / "record.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("name", "setting"),
    [("replay", Setting.CLASS_INCREMENTAL), ("ewc", Setting.TASK_INCREMENTAL), ("hft", Setting.CLASS_INCREMENTAL)],
)
def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bits(
    tmp_path: Path, name: str, setting: Setting
) -> None:
    whole = subprocess.Popen.wait(start(make(tmp_path / "whole", name, setting, epochs=8)))
    assert whole == 0
    wanted = record.read(make(tmp_path / "whole", name, setting, epochs=8).folder)
    run = make(tmp_path / "killed", name, setting, epochs=8)
    interrupted = 0
    for stop_after in (1, 2, 3):
        process = start(run)
        while process.poll() is None:
            found = record.read(run.folder)
            if found is not None and found.learnt >= stop_after:
                time.sleep(0.02 * stop_after)  # at different points within the next experience
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.002)
        process.wait()
        found = record.read(run.folder)
        interrupted += found is not None and found.status is Status.RUNNING
    assert interrupted >= 2
    assert start(run).wait() == 0
    final = record.read(run.folder)
    assert final is not None
    assert wanted is not None
    assert result(final) == result(wanted)


def test_a_kill_between_checkpoint_and_record_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = result(engine.execute(make(tmp_path / "whole")))
    run, writes = make(tmp_path / "killed"), list[int]()
    run.folder.mkdir(parents=True)
    (run.folder / "record.json.partial").write_text("{")
    write = record.write

    def dies(folder: Path, found: Record) -> None:
        writes.append(found.learnt)
        if len(writes) == 3:
            raise KeyboardInterrupt
        write(folder, found)

    monkeypatch.setattr(record, "write", dies)
    with pytest.raises(KeyboardInterrupt):
        engine.execute(run)
    stale = record.read(run.folder)
    assert stale is not None
    assert stale.learnt == 2
    assert result(engine.execute(run)) == wanted
    assert writes == [1, 2, 3, 4, 5, 5]
    assert not list(run.folder.glob("*.partial"))


def test_several_processes_may_ask_for_the_same_run(tmp_path: Path) -> None:
    processes = [start(make(tmp_path)) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    found = record.read(make(tmp_path).folder)
    assert found is not None
    assert found.learnt == 5


def test_threads_of_one_process_may_ask_for_the_same_run(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(engine.execute, [make(tmp_path)] * 2)
    assert one == other


def test_the_global_random_state_is_neither_read_nor_written(tmp_path: Path) -> None:
    torch.manual_seed(1)
    first = engine.execute(make(tmp_path / "one", "hft"))
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    second = engine.execute(make(tmp_path / "other", "hft"))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert result(first) == result(second)


def test_a_diverged_run_is_kept_with_the_reason(tmp_path: Path) -> None:
    found = engine.execute(make(tmp_path, "naive", lr=1e6))
    assert found.status is Status.DIVERGED
    assert "the loss of experience 0 is" in found.problem
    assert found.measurements == ()
    assert engine.execute(make(tmp_path, "naive", lr=1e6)) == found


def test_data_that_changed_under_a_run_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make(tmp_path)
    session = engine._Session(run, Peers())
    run.folder.mkdir(parents=True)
    session._experience(session._begin_or_resume(), session.stream.experiences[0])
    scenario, _ = scenarios.load("digits")
    stream = scenario.stream
    monkeypatch.setattr(scenario, "stream", lambda *a, **k: replace(stream(*a, **k), digest="another"))
    with pytest.raises(DataError, match="was begun on other data"):
        engine.execute(run)


def test_a_crash_leaves_its_traceback_and_can_be_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make(tmp_path)
    cls, _ = strategies.load("replay")
    with monkeypatch.context() as patch:
        patch.setattr(cls, "end", lambda self, experience: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            engine.execute(run)
    assert "ZeroDivisionError" in (run.folder / "error.txt").read_text()
    assert engine.execute(run).status is Status.FINISHED


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of"),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported at some other call."),
    ],
)
def test_want_of_memory_is_one_line_that_says_what_to_lower(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(*_: object) -> None:
        raise error

    run = make(tmp_path)
    cls, _ = strategies.load("replay")
    with monkeypatch.context() as patch:
        patch.setattr(cls, "end", end)
        with pytest.raises(
            ResourceError, match=r"CUDA.* out of memory\).*lower executor\.per_gpu.*batch_size"
        ) as raised:
            engine.execute(run)
    assert "\n" not in str(raised.value)
    assert "OutOfMemoryError" in (run.folder / "error.txt").read_text() or "CUDA error" in str(error)
    assert engine.execute(run).status is Status.FINISHED


def test_a_strategy_that_cannot_take_the_problem_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cls, _ = strategies.load("replay")
    monkeypatch.setattr(cls, "skip", classmethod(lambda *_: "it needs a language model"))
    with pytest.raises(IncompatibleError, match="strategy replay cannot run here: it needs a language model"):
        engine.execute(make(tmp_path))


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ClbenchError, match=r"cannot write to .* choose another output=FOLDER"):
        engine.execute(make(tmp_path / "file"))


def test_the_identity_names_what_determines_the_result_and_nothing_else(tmp_path: Path) -> None:
    run = make(tmp_path)
    same = replace(run, output=tmp_path / "elsewhere", root=tmp_path, asked=(("strategy", "replay"),))
    assert same.identity == run.identity
    others = [
        replace(run, seed=1),
        replace(run, strategy=replace(run.strategy, lr=0.1)),
        replace(run, model=replace(run.model, width=5)),
        replace(run, scenario=replace(run.scenario, increment=5)),
        replace(run, device="cuda"),
        replace(run, part=Part.EVALUATION_HALF),
        replace(run, selection=Selection(by="somebody")),
    ]
    assert len({run.identity, *(other.identity for other in others)}) == 8


def test_the_identity_sees_another_checkpoint_under_the_same_name(tmp_path: Path) -> None:
    weights = tmp_path / "weights.pth"
    identities = []
    for content in (b"one", b"other"):
        weights.write_bytes(content)
        run = make(tmp_path)
        identities.append(replace(run, model=replace(run.model, checkpoint=weights)).identity)
    assert identities[0] != identities[1]


def test_measuring_in_one_pass_is_measuring_each_experience() -> None:
    from tests.learning import digits, strategy

    stream = digits()
    learner = strategy("naive", stream)
    for experience in stream.experiences[:3]:
        engine.learn(learner, experience)
    for measured in examination.measure(learner, stream, 3):
        test = stream.experiences[measured.experience].test
        correct = sum(int((learner.predict({"image": b["image"]}) == b["label"]).sum()) for b in test.batches(7))
        assert (measured.correct, measured.total) == (correct, len(test))


def test_the_state_digest_sees_every_tensor_and_number() -> None:
    state = {"a": torch.zeros(3), "b": {"c": [1, torch.ones(2)]}}
    digests = {
        state_digest(state),
        state_digest({**state, "a": torch.zeros(1, 3)}),
        state_digest({**state, "a": torch.tensor([0.0, 0.0, 1e-30])}),
        state_digest({**state, "b": {"c": [2, torch.ones(2)]}}),
    }
    assert len(digests) == 4
    assert state_digest(dict(reversed(state.items()))) == state_digest(state)


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
