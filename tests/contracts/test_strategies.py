"""What every strategy must do, run over every strategy that is found."""

from __future__ import annotations

import copy
import random
from typing import Any

import numpy as np
import pytest
import torch

from clbench.digest import state_digest
from clbench.engine import learn
from clbench.examination import measure
from clbench.record import Setting
from clbench.scenario import Stream
from clbench.space import ranges
from clbench.strategy import strategies
from tests.learning import cases, settings, shortened, skip_without_package, strategy, stream_for

NAMES = strategies.names()
CASES = cases()


def learnt(name: str, stream: Stream, experiences: int = 2, seed: int = 0) -> Any:
    learner = strategy(name, stream, seed)
    for experience in stream.experiences[:experiences]:
        learn(learner, shortened(experience, 64))
    return learner


@pytest.mark.parametrize(("name", "setting"), CASES)
def test_it_learns_two_experiences_and_answers_with_classes_it_has_seen(name: str, setting: Setting) -> None:
    stream = stream_for(name, setting)
    learner = learnt(name, stream)
    for experience in stream.experiences[:2]:
        batch = next(experience.test.batches(32))
        answers = learner.predict(stream.answers.question(batch))
        assert len(answers) == len(batch["label"])
        assert answers.dtype == torch.int64
        if setting.in_words:
            assert answers.ndim == 2
            continue
        assert answers.ndim == 1
        allowed = experience.classes if setting is Setting.TASK_INCREMENTAL else range(4)
        assert set(answers.tolist()) <= set(allowed)


@pytest.mark.parametrize(("name", "setting"), CASES)
def test_measuring_changes_nothing(name: str, setting: Setting) -> None:
    stream = stream_for(name, setting)
    learner = learnt(name, stream)
    before = state_digest(copy.deepcopy(learner.state()))
    first = measure(learner, stream, 2)
    assert measure(learner, stream, 2) == first
    assert state_digest(learner.state()) == before


@pytest.mark.parametrize(("name", "setting"), CASES)
def test_a_restored_strategy_goes_on_with_the_same_bits(name: str, setting: Setting) -> None:
    stream = stream_for(name, setting)
    whole = learnt(name, stream)
    other = strategy(name, stream)
    other.restore(copy.deepcopy(whole.state()))
    for learner in (whole, other):
        learn(learner, shortened(stream.experiences[2], 64))
    assert state_digest(whole.state()) == state_digest(other.state())
    assert measure(whole, stream, 3) == measure(other, stream, 3)
    assert whole.stored_bytes() == other.stored_bytes()
    assert whole.parameters() == other.parameters()


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_decides_every_bit_and_no_global_state_is_read_or_written(name: str) -> None:
    stream = stream_for(name)
    torch.manual_seed(1)
    first = state_digest(learnt(name, stream, seed=5).state())
    torch.manual_seed(2)
    before = (torch.random.get_rng_state(), np.random.get_state()[1].copy(), random.getstate())  # type: ignore[index]
    assert state_digest(learnt(name, stream, seed=5).state()) == first
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # type: ignore[index]
    assert random.getstate() == before[2]
    if settings(name) != [Setting.EDITING]:  # what edits are made is drawn with the stream, and editors draw nothing
        assert state_digest(learnt(name, stream, seed=6).state()) != first


@pytest.mark.parametrize("name", NAMES)
def test_every_searched_field_has_its_default_within_its_range(name: str) -> None:
    skip_without_package(name)
    _, config = strategies.load(name)
    for field, range_ in ranges(config()).items():
        default = getattr(config(), field)
        if default is None:  # what is known of the model, or nothing
            continue
        inside = default in range_.values if hasattr(range_, "values") else range_.low <= default <= range_.high
        assert inside, f"{name}.{field}"


@pytest.mark.parametrize("name", NAMES)
def test_its_file_says_what_it_is(name: str) -> None:
    certificate = strategies.certificate(name)
    assert 10 < len(strategies.summary(name)) <= 100
    assert "Certificate:" in certificate
    assert "arXiv" in certificate or name == "naive"
