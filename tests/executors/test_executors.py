from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from clbench import engine
from clbench.executor import executors
from clbench.models.config import ModelConfig
from clbench.protocol import Study, evaluation_run
from clbench.record import Part, Selection, Status
from clbench.run import Run
from clbench.scenario import scenarios
from clbench.strategy import strategies


def runs(folder: Path, count: int = 3) -> list[Run]:
    _, scenario = scenarios.load("digits")
    _, config = strategies.load("replay")
    study = Study(scenario(), config(epochs=1), ModelConfig("small_cnn", width=4), "cpu", folder)
    return [evaluation_run(study, "single", seed, Part.WHOLE, Selection(by="given")) for seed in range(count)]


@pytest.mark.parametrize("name", executors.names())
def test_every_executor_gives_the_same_bits(name: str, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    wanted = [engine.execute(run).state_digest for run in runs(tmp_path / "here")]
    torch.set_num_threads(threads)
    _, config = executors.load(name)
    told = {"threads": 1} if hasattr(config(), "threads") else {}  # sums are rounded otherwise by more of them
    with executors.build(config(**told), 3, "cpu") as executor:
        futures = [executor.submit(run) for run in runs(tmp_path / name)]
        records = [future.result() for future in futures]
    assert [record.state_digest for record in records] == wanted
    assert {record.status for record in records} == {Status.FINISHED}


def test_no_more_workers_are_started_than_there_are_jobs() -> None:
    _, config = executors.load("processes")
    with executors.build(config(workers=8), 3, "cpu") as executor:
        assert executor.workers == 3
    with executors.build(config(), 10, "cuda") as executor:
        assert executor.workers == 1


def test_stopping_in_the_middle_ends_the_workers(tmp_path: Path) -> None:
    _, config = executors.load("processes")
    long = [replace(run, strategy=replace(run.strategy, epochs=500)) for run in runs(tmp_path, 4)]
    with executors.build(config(), 4, "cpu") as executor:
        futures = [executor.submit(run) for run in long]
        while not any(run.folder.exists() for run in long):
            time.sleep(0.05)
    assert all(future.done() for future in futures)
    assert all(isinstance(future.exception(), Exception) for future in futures if not future.cancelled())


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for orphans in /proc")
def test_workers_end_when_the_command_is_killed(tmp_path: Path) -> None:
    words = ["run", "protocol=single", "protocol.seeds=[0,1,2,3]", "strategy.epochs=500", f"output={tmp_path}"]
    root = str(Path(__file__).parent.parent.parent)
    process = subprocess.Popen(
        [sys.executable, "-m", "clbench", *words], cwd=root, stdout=subprocess.DEVNULL, start_new_session=True
    )
    try:
        deadline = time.monotonic() + 60
        while not list(tmp_path.rglob("lock")) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert list(tmp_path.rglob("lock"))
        process.send_signal(signal.SIGKILL)
        process.wait()
        deadline = time.monotonic() + 20
        while _alive(process.pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not _alive(process.pid)
    finally:
        for pid in _alive(process.pid):
            os.kill(pid, signal.SIGKILL)


def _alive(session: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found
