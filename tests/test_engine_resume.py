from __future__ import annotations

import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from clbench import engine, record
from clbench.errors import DataError, ResourceError
from clbench.parallel import Peers
from clbench.record import Record, Setting, Status
from clbench.scenario import scenarios
from clbench.strategy import strategies
from tests.runs import make, result, start


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
    assert f"{type(error).__name__}: {error}" in (run.folder / "error.txt").read_text()
    assert engine.execute(run).status is Status.FINISHED
