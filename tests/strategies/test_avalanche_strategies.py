"""Avalanche's strategies under our protocol."""

from __future__ import annotations

import copy
import io
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

from clbench import engine, record
from clbench.digest import state_digest
from clbench.engine import learn
from clbench.errors import ClbenchError, DivergedError, IncompatibleError
from clbench.examination import measure
from clbench.models.config import ModelConfig
from clbench.protocol import Study, evaluation_run
from clbench.record import Part, Selection, Setting, Status
from clbench.run import Run
from clbench.scenario import Stream, scenarios
from clbench.seeding import isolated
from clbench.strategy import strategies
from tests.learning import OF_CLASSES, digits, problem, shortened, strategy

pytest.importorskip("avalanche", reason="Avalanche is not installed")

from avalanche.training import supervised

from clbench.avalanche import benchmark, templates
from clbench.avalanche.network import network

NAMES = sorted(templates.TEMPLATES)


def by_hand(name: str, stream: Stream, seed: int = 0, **arguments: Any) -> Any:
    """The template as Avalanche's users drive it, over two experiences."""
    classifier: Any = problem(stream, seed).model()
    model = network(classifier)
    with templates.quiet():
        learner = getattr(supervised, name)(
            model=model,
            optimizer=torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4),
            criterion=torch.nn.CrossEntropyLoss(),
            train_mb_size=32,
            train_epochs=1,
            evaluator=None,
            **arguments,
        )
        for theirs in list(benchmark(stream).train_stream)[:2]:
            with isolated(seed, "learn", theirs.current_experience):
                learner.train(theirs)
    return learner


def bridged(name: str, stream: Stream, seed: int = 0, **arguments: Any) -> Any:
    made = strategy("avalanche", stream, seed, name=name, arguments=arguments)
    for experience in stream.experiences[:2]:
        learn(made, experience)
    return made


@pytest.mark.parametrize("setting", OF_CLASSES)
@pytest.mark.parametrize(
    ("name", "arguments"), [("Naive", {}), ("Replay", {"mem_size": 50}), ("EWC", {"ewc_lambda": 5.0})]
)
def test_it_learns_what_avalanche_learns(name: str, arguments: dict[str, Any], setting: Setting) -> None:
    stream = digits(setting)
    ours, theirs = bridged(name, stream, **arguments), by_hand(name, stream, **arguments)
    weights = theirs.model.state_dict()
    assert all(torch.equal(tensor, weights[key]) for key, tensor in ours.learner.model.state_dict().items())
    if name == "EWC":
        found, wanted = (next(p for p in x.plugins if hasattr(p, "importances")) for x in (ours.learner, theirs))
        assert found.importances.keys() == wanted.importances.keys() == {0, 1}
        for t, importances in wanted.importances.items():
            for key, importance in importances.items():
                assert torch.equal(found.importances[t][key].data, importance.data)
                assert importance.data.any() or not importance.data.numel()


@pytest.mark.parametrize(("name", "setting"), list(product(NAMES, OF_CLASSES)))
def test_every_template_goes_on_with_the_same_bits(name: str, setting: Setting) -> None:
    stream = digits(setting)
    whole, other = (strategy("avalanche", stream, name=name) for _ in range(2))
    for experience in stream.experiences[:2]:
        learn(whole, shortened(experience, 64))
    file = io.BytesIO()
    torch.save(whole.state(), file)
    file.seek(0)
    other.restore(torch.load(file, weights_only=True))
    assert state_digest(other.state()) == state_digest(whole.state())
    assert measure(other, stream, 2) == measure(whole, stream, 2)
    for learner in (whole, other):
        learn(learner, shortened(stream.experiences[2], 64))
    assert state_digest(other.state()) == state_digest(whole.state())
    assert other.stored_bytes() == whole.stored_bytes()


def run(folder: Path, **values: Any) -> Run:
    _, scenario = scenarios.load("digits")
    _, config = strategies.load("avalanche")
    study = Study(scenario(), config(**{"epochs": 1} | values), ModelConfig("small_cnn", width=4), "cpu", folder)
    return evaluation_run(study, "single", 0, Part.WHOLE, Selection(by="given"))


@pytest.mark.parametrize("name", ["AGEM", "EWC"])
def test_a_run_that_is_stopped_ends_with_the_same_bits(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = engine.execute(run(tmp_path / "whole", name=name))
    cls, _ = strategies.load("avalanche")
    learn_one = cls.learn

    def stops(self: Any, experience: Any) -> None:
        if experience.index == 3:
            raise KeyboardInterrupt
        learn_one(self, experience)

    monkeypatch.setattr(cls, "learn", stops)
    with pytest.raises(KeyboardInterrupt):
        engine.execute(run(tmp_path / "stopped", name=name))
    monkeypatch.undo()
    left = record.read(run(tmp_path / "stopped", name=name).folder)
    assert left is not None
    assert (left.status, left.learnt) == (Status.RUNNING, 3)
    found = engine.execute(run(tmp_path / "stopped", name=name))
    assert (found.state_digest, found.measurements) == (wanted.state_digest, wanted.measurements)
    assert found.strategy_config["arguments"] == templates.TEMPLATES[name]


def test_the_bytes_stored_are_those_of_exemplars_and_tensors() -> None:
    stream = digits()
    row = stream.experiences[0].train.source.row_bytes
    sizes = {n: bridged("Replay", stream, mem_size=n).stored_bytes() for n in (20, 60)}
    assert sizes[60] - sizes[20] == 40 * (row + 4)  # the reservoir keeps one float32 beside each
    naive = bridged("Naive", stream)
    momentum = sum(4 * p.numel() for p in naive.learner.model.parameters())
    assert naive.stored_bytes() == pytest.approx(momentum, rel=0.01)
    model = sum(4 * p.numel() for p in naive.learner.model.parameters())
    assert bridged("LwF", stream).stored_bytes() > momentum + model


def test_learning_beats_naive_where_exemplars_are_kept() -> None:
    stream = digits()
    after = {}
    for name in ("Naive", "Replay"):
        made = strategy("avalanche", stream, name=name, epochs=5)
        for experience in stream.experiences[:3]:
            learn(made, experience)
        after[name] = sum(m.correct for m in measure(made, stream, 3)) / sum(m.total for m in measure(made, stream, 3))
    assert after["Replay"] > 0.8 > after["Naive"]


def test_a_network_that_is_no_longer_finite_is_diverged() -> None:
    with pytest.raises(DivergedError, match="not finite after experience 0"):
        learn(strategy("avalanche", digits(), lr=1e30), digits().experiences[0])


@pytest.mark.parametrize(
    ("name", "arguments", "text"),
    [
        ("EWX", {}, "unknown Avalanche strategy 'EWX'. Did you mean EWC"),
        ("EWC", {"ewc_lamda": 1}, "EWC takes no argument 'ewc_lamda'. Did you mean ewc_lambda?"),
        ("Naive", {"mem_size": 1}, "Naive takes no argument 'mem_size'. It takes: -"),
        ("EWC", {"ewc_lambda": "much"}, "strategy.arguments.ewc_lambda must be a number from 0, got 'much'"),
        ("EWC", {"ewc_lambda": -1}, "strategy.arguments.ewc_lambda must be a number from 0, got -1"),
        ("EWC", {"decay_factor": "x"}, "strategy.arguments.decay_factor must be a number from 0 or null, got 'x'"),
        ("Replay", {"mem_size": 0}, "strategy.arguments.mem_size must be a whole number from 1, got 0"),
        ("Replay", {"train_epochs": 3}, "train_epochs is decided by clbench; set strategy.epochs instead"),
        ("EWC", {"plugins": []}, "strategy.arguments.plugins is decided by clbench"),
        ("ICaRL", {}, "Avalanche's ICaRL cannot be run here: it wants a network of its own kind"),
        ("GEM", {}, "Avalanche's GEM cannot be run here: it wants a solver"),
        ("EWC", {"mode": "online"}, "Avalanche's EWC refuses its arguments"),
    ],
)
def test_a_mistake_gets_one_line_before_anything_is_learnt(name: str, arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ClbenchError) as caught:
        strategy("avalanche", digits(), name=name, arguments=arguments)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_argument_that_does_not_suit_the_stream_gets_one_line() -> None:
    stream = digits()
    made = strategy("avalanche", stream, name="AGEM", arguments={"sample_size": 1})
    for experience in stream.experiences[:2]:
        learn(made, shortened(experience, 64))
    with pytest.raises(IncompatibleError, match=r"^Avalanche's AGEM fails in experience 2 with ValueError: .+$"):
        learn(made, shortened(stream.experiences[2], 64))


def test_every_template_of_avalanche_can_be_run_or_has_a_reason_why_not() -> None:
    refused = [name for names in templates.REFUSED.values() for name in names.split()]
    assert sorted([*templates.TEMPLATES, *refused]) == templates.names()


def test_a_state_is_not_changed_by_going_on() -> None:
    stream = digits()
    made = bridged("Replay", stream)
    kept = copy.deepcopy(made.state())
    other = strategy("avalanche", stream, name="Replay")
    other.restore(kept)
    before = state_digest(kept)
    learn(other, shortened(stream.experiences[2], 64))
    assert state_digest(kept) == before


def test_without_avalanche_there_is_one_line() -> None:
    code = """
import sys
sys.modules["avalanche"] = None
from clbench.cli.main import run
sys.exit(run(["run", "strategy=avalanche", "--config"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert "install it with: pip install 'clbench[avalanche]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1
