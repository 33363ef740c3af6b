from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing

from clbench import engine, opening
from clbench.digest import state_digest
from clbench.errors import ClbenchError, ConfigError, IncompatibleError
from clbench.executor import executors
from clbench.finetune import Optimizer
from clbench.half import own_parameters
from clbench.models.config import AdapterConfig, ModelConfig
from clbench.parallel import Peers, Sharding, Team, block_classes
from clbench.protocol import Study, evaluation_run
from clbench.record import Part, Selection, Status
from clbench.run import Run
from clbench.scenario import scenarios
from clbench.seeding import isolated
from clbench.space import starts
from clbench.strategy import strategies
from tests.learning import instructions, shortened, text_problem

EXAMPLES = 17  # in batches of 5: shares of 3 and 2, then of 1 and 1


def learnt(name: str, peers: Peers, experiences: int = 2, examples: int = EXAMPLES, **values: Any) -> dict[str, Any]:
    """What a strategy has become after short experiences on the embedded language model."""
    cls, config = strategies.load(name)
    scenario = instructions(AdapterConfig(rank=4, dropout=0.0) if cls.low_rank else None)
    stream = scenario.stream(0)
    settled = {**starts(config, scenario.training), "epochs": 1, "batch_size": 5, "clip": 1.0, **values}
    with isolated(0, "initialise"):
        learner: Any = strategies.build(config(**settled), replace(text_problem(scenario, stream), peers=peers))
    begin: dict[str, Any] = {n: p.detach().clone() for n, p in learner.model.named_parameters()}
    made: list[torch.optim.Optimizer] = []
    parameters = dict(learner.model.named_parameters())
    build: Callable[[], torch.optim.Optimizer] = learner._optimizer

    def kept() -> torch.optim.Optimizer:
        made.append(build())
        return made[-1]

    learner._optimizer = kept
    for experience in stream.experiences[:experiences]:
        engine.learn(learner, shortened(experience, examples))
    learner.model.eval()
    batch = next(stream.experiences[0].test.batches(8))
    return {
        "begin": begin,
        "end": {n: p.detach().clone() for n, p in learner.model.named_parameters()},
        "digest": state_digest(learner.state()),
        "answers": learner.log_likelihoods(batch)[0],
        "same": all(parameters.get(n, p) is p for n, p in learner.model.named_parameters()),
        "frozen": [id(p) for unit in getattr(learner, "frozen", []) for p in own_parameters(learner.model, unit)],
        "names": {id(p): n for n, p in learner.model.named_parameters()},
        "states": len(made[-1].state),
        "trained": sum(p.requires_grad for p in learner.model.parameters()),
    }


CASES: dict[str, dict[str, Any]] = {
    "naive": {"name": "naive", "accumulate": 2},
    "lora": {"name": "lora", "experiences": 1},
    "task_arithmetic": {"name": "task_arithmetic"},  # holds on to the weights' memory
    "coin": {"name": "coin"},  # and looks at the gradients of each step
    "hft": {"name": "hft", "experiences": 1, "first_frozen": 0, "optimizer": Optimizer.ADAMW},
    "nothing for one": {"name": "naive", "experiences": 1, "examples": 3, "batch_size": 1, "accumulate": 3},
}


def cases(sharding: Sharding) -> dict[str, dict[str, Any]]:
    return {case: how for case, how in CASES.items() if sharding in strategies.load(how["name"])[0].spreads}


def work(rank: int, sharding: Sharding, folder: Path) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2"}
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    team = Team(rank, 2, sharding, "cpu", str(folder / "meeting"))
    torch.save({case: learnt(peers=team, **how) for case, how in cases(sharding).items()}, folder / f"{rank}.pt")


@pytest.fixture(scope="module")
def alone() -> dict[str, dict[str, Any]]:
    """What one process learns, case by case."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return {case: learnt(peers=Peers(), **how) for case, how in cases(Sharding.NONE).items()}
    finally:
        torch.set_num_threads(threads)


@pytest.fixture(scope="module", params=Sharding)
def together(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes learns, case by case."""
    folder = tmp_path_factory.mktemp(request.param.value)
    spawn: Any = torch.multiprocessing.spawn  # type: ignore[attr-defined]
    spawn(work, (request.param, folder), 2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def test_two_processes_learn_what_one_does(alone: dict[str, Any], together: list[dict[str, Any]]) -> None:
    for case, found in together[0].items():
        wanted = alone[case]
        moved = sum(float((wanted["end"][n] - b).square().sum()) for n, b in wanted["begin"].items()) ** 0.5
        off = sum(float((wanted["end"][n] - e).square().sum()) for n, e in found["end"].items()) ** 0.5
        # AdamW divides by the gradient's own size, so rounding counts where a gradient is nearly 0; a wrong weight of a
        # share would be off by percents.
        assert off < 3e-3 * moved, f"{case}: {off / moved}"
        assert torch.allclose(found["answers"], wanted["answers"], rtol=1e-2, atol=3e-2), case


def test_all_processes_end_with_the_same_bits_and_the_parameters_they_began_with(
    together: list[dict[str, Any]],
) -> None:
    for case, found in together[0].items():
        assert found["digest"] == together[1][case]["digest"], case
        assert found["same"], case


def test_the_frozen_half_keeps_its_bits_and_has_no_optimiser_state(together: list[dict[str, Any]]) -> None:
    found = together[0]["hft"]
    frozen = {found["names"][i] for i in found["frozen"]}
    assert len(frozen) > 10
    assert found["states"] == found["trained"] == len(found["names"]) - len(frozen)
    for name, begin in found["begin"].items():
        assert torch.equal(begin, found["end"][name]) == (name in frozen), name


def test_blocks_are_gathered_one_at_a_time() -> None:
    scenario = instructions()
    assert block_classes(scenario.build_model(scenario.stream(0))) == ["LlamaDecoderLayer"]


def digits_run(folder: Path, strategy: str = "replay", model: str = "small_vit", **values: Any) -> Run:
    _, scenario = scenarios.load("digits")
    _, config = strategies.load(strategy)
    width = 4 if model == "small_cnn" else None
    study = Study(scenario(), config(**values), ModelConfig(model, width=width), "cpu", folder)
    return evaluation_run(study, "single", 0, Part.WHOLE, Selection(by="given"))


def team(sharding: Sharding = Sharding.NONE, devices: int = 2, device: str = "cpu") -> Any:
    _, config = executors.load("accelerate")
    return executors.build(config(devices=devices, sharding=sharding, threads=1), 4, device)


def test_an_error_in_one_process_is_the_runs_and_what_was_learnt_before_it_stays(tmp_path: Path) -> None:
    """The others wait for the one that failed; they are ended, and the next run begins with new ones."""
    (tmp_path / "file").write_text("")
    run = digits_run(tmp_path, epochs=3)
    with team() as executor:
        with pytest.raises(ClbenchError, match="cannot write to"):
            executor.submit(digits_run(tmp_path / "file")).result()
        killed = executor.submit(run)
        while not (executor.placed(run).folder / "checkpoint.pt").exists():
            time.sleep(0.02)
        executor._team[1].process.kill()
        with pytest.raises(RuntimeError, match="process 1 of 2 ended with -9"):
            killed.result()
        gone_on, whole = (executor.submit(one).result() for one in (run, replace(run, output=tmp_path / "whole")))
    assert gone_on.status is Status.FINISHED
    assert gone_on.state_digest == whole.state_digest
    assert gone_on.environment.device == "cpu x 2"
    assert [m.correct for m in gone_on.measurements] == [m.correct for m in whole.measurements]


def test_a_run_on_several_devices_is_another_run(tmp_path: Path) -> None:
    run = digits_run(tmp_path)
    others = [team().placed(run), team(devices=3).placed(run), team(Sharding.FULL).placed(run)]
    assert len({run.identity, *(other.identity for other in others)}) == 4
    assert team(devices=1).placed(run).identity == run.identity


@pytest.mark.parametrize(
    ("sharding", "strategy", "model", "reason"),
    [
        (Sharding.FULL, "coin", "small_vit", "coin cannot run on 2 devices, sharded: it may look at whole tensors"),
        (Sharding.FULL, "ewc", "small_vit", "whole tensors while it learns; use executor.sharding=none"),
        (Sharding.NONE, "icarl", "small_vit", "icarl .* not known to be a mean .*; use executor.devices=1"),
        (Sharding.NONE, "naive", "small_cnn", "cannot be shared by 2 devices: its model has batch norm"),
    ],
)
def test_what_cannot_be_shared_is_refused(
    sharding: Sharding, strategy: str, model: str, reason: str, tmp_path: Path
) -> None:
    run = team(sharding).placed(digits_run(tmp_path, strategy, model))
    with pytest.raises(IncompatibleError, match=reason):
        opening.build_strategy(run, opening.open_stream(run))


def test_devices_that_are_not_there_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"executor\.devices=\d+, but torch finds \d+ GPUs"):
        team(devices=torch.cuda.device_count() + 1, device="cuda")
    with pytest.raises(ConfigError, match=r"executor\.devices=2"):
        team(Sharding.FULL, devices=1)
