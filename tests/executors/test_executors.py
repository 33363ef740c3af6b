from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from clbench import engine
from clbench.errors import ConfigError, ResourceError
from clbench.executor import executors
from clbench.models.config import ModelConfig
from clbench.protocol import Study, evaluation_run
from clbench.record import Part, Selection, Status, read
from clbench.run import Run
from clbench.scenario import scenarios
from clbench.strategy import strategies


def runs(folder: Path, count: int = 3, device: str = "cpu") -> list[Run]:
    _, scenario = scenarios.load("digits")
    _, config = strategies.load("replay")
    study = Study(scenario(), config(epochs=1), ModelConfig("small_cnn", width=4), device, folder)
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


@pytest.mark.parametrize(
    ("gpus", "told", "workers"),
    [(1, {}, 1), (4, {}, 4), (2, {"per_gpu": 3}, 6), (2, {"per_gpu": 3, "workers": 5}, 5), (0, {}, 1)],
)
def test_workers_follow_from_the_gpus_unless_they_are_given(
    gpus: int, told: dict[str, int], workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, config = executors.load("processes")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with executors.build(config(**told), 10, "cuda") as executor:
        assert executor.workers == workers


def environment(run: Run) -> dict[str, str]:
    return {name: os.environ.get(name, "") for name in ("CUDA_VISIBLE_DEVICES", "CLBENCH_SEEN")}


def test_every_worker_sees_the_gpu_that_it_was_dealt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(engine, "execute", environment)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,3")
    monkeypatch.setenv("CLBENCH_SEEN", "yes")
    _, config = executors.load("processes")
    with executors.build(config(workers=3, threads=1), 3, "cuda") as executor:
        futures = [executor.submit(run) for run in runs(tmp_path)]
        found: list[Any] = [future.result() for future in futures]
    assert sorted(one["CUDA_VISIBLE_DEVICES"] for one in found) == ["3", "5", "5"]
    assert all(one["CLBENCH_SEEN"] == "yes" for one in found)


def test_a_worker_that_is_killed_takes_only_its_own_run_along(tmp_path: Path) -> None:
    """Its run goes on from the last experience, in a new process, and ends with the bits of one left in peace."""
    _, config = executors.load("processes")
    long, *others = [
        replace(run, strategy=replace(run.strategy, epochs=e))
        for run, e in zip(runs(tmp_path), (10, 1, 1), strict=True)
    ]
    with executors.build(config(workers=2, threads=1), 3, "cpu") as executor:
        lost = executor.submit(long)
        futures = [executor.submit(run) for run in others]
        while (found := read(long.folder)) is None or not found.learnt:
            time.sleep(0.02)
        executor._alive[0].process.kill()  # type: ignore[attr-defined]
        with pytest.raises(ResourceError, match=r"ended by SIGKILL.*; lower executor\.workers or strategy\.batch_size"):
            lost.result()
        assert {future.result().status for future in futures} == {Status.FINISHED}
        wholly = executor.submit(replace(long, output=tmp_path / "whole"))
        assert executor.submit(long).result().state_digest == wholly.result().state_digest


def test_what_to_lower_is_what_was_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(engine, "execute", dying)
    _, config = executors.load("processes")
    for told, lower in (({"per_gpu": 2}, "per_gpu"), ({"workers": 2}, "workers")):
        with executors.build(config(**told), 1, "cuda") as executor:
            future = executor.submit(runs(tmp_path, 1)[0])
            with pytest.raises(ResourceError, match=rf"ended with status 3.*; lower executor\.{lower} or"):
                future.result()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_runs_side_by_side_on_a_gpu_end_with_the_bits_of_runs_one_by_one(tmp_path: Path) -> None:
    _, config = executors.load("processes")
    found = []
    for per_gpu in (1, 3):
        with executors.build(config(per_gpu=per_gpu, threads=1), 3, "cuda") as executor:
            futures = [executor.submit(run) for run in runs(tmp_path / str(per_gpu), device="cuda")]
            found.append([future.result().state_digest for future in futures])
    assert found[0] == found[1]


def dying(run: Run) -> None:
    os._exit(3)


def failing(run: Run) -> None:
    def cannot_be_pickled() -> None: ...

    raise ValueError(cannot_be_pickled)


def test_an_exception_that_cannot_be_pickled_is_told_in_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(engine, "execute", failing)
    _, config = executors.load("processes")
    with executors.build(config(), 1, "cpu") as executor:
        future = executor.submit(runs(tmp_path, 1)[0])
        with pytest.raises(RuntimeError, match=r"ValueError.*cannot_be_pickled"):
            future.result()


@pytest.mark.parametrize("values", [{"workers": 0}, {"per_gpu": 0}, {"threads": 0}])
def test_bad_numbers_are_one_line(values: dict[str, int]) -> None:
    _, config = executors.load("processes")
    with pytest.raises(ConfigError, match=r"^executor\.\w+ must be >= 1.*, got 0$"):
        config(**values)


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
