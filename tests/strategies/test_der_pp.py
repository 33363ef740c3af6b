from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from clbench.engine import learn
from clbench.errors import ConfigError
from clbench.examination import measure
from clbench.memory import MemoryConfig, Policy
from clbench.record import Setting
from clbench.strategies import der_pp
from clbench.strategies.der_pp import DERppConfig
from clbench.table import Batch, Source, Table
from tests.learning import OF_CLASSES, digits, shortened, strategy


def reservoir(capacity: int, batch_size: int = 32) -> MemoryConfig:
    return MemoryConfig(capacity=capacity, policy=Policy.RESERVOIR, batch_size=batch_size)


def drawn(*shapes: tuple[int, ...]) -> list[Tensor]:
    draws = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=draws, dtype=torch.float64) for shape in shapes]


def test_the_distance_is_the_sum_written_out_and_so_is_its_gradient() -> None:
    logits, stored = drawn((4, 6), (4, 5))
    logits.requires_grad_()
    outputs = [2, 5, 3, 5]
    wanted, slopes = 0.0, torch.zeros(4, 6, dtype=torch.float64)
    for i, count in enumerate(outputs):
        for j in range(count):
            gap = float((logits[i, j] - stored[i, j]).detach())
            wanted += gap**2 / count / 4
            slopes[i, j] = 2 * gap / count / 4
    got = der_pp.logit_distance(logits, stored, torch.tensor(outputs))
    assert abs(float(got.detach()) - wanted) < 1e-12
    assert torch.allclose(torch.autograd.grad(got, logits)[0], slopes, atol=1e-12)


def test_positions_are_where_a_search_finds_them() -> None:
    rows = torch.randperm(50, generator=torch.Generator().manual_seed(0)) * 3
    sought = rows[torch.tensor([7, 0, 49, 7])]
    assert der_pp.positions(sought, rows).tolist() == [7, 0, 49, 7]
    assert der_pp.positions(rows[:0], rows[:0]).tolist() == []


@pytest.mark.parametrize("policy", Policy)
@pytest.mark.parametrize("setting", OF_CLASSES)
def test_stored_logits_are_those_at_the_end_of_the_exemplars_experience_and_stay(
    setting: Setting, policy: Policy
) -> None:
    stream = digits(setting)
    learner: Any = strategy("der_pp", stream, memory=MemoryConfig(capacity=30, policy=policy))
    source = stream.experiences[0].train.source
    wanted: dict[int, Tensor] = {}
    for experience in stream.experiences[:3]:
        learn(learner, shortened(experience, 64))
        table = shortened(experience, 64).train
        logits = learner.model.eval().all_logits(stream.transform.evaluate(source.take(table.rows)))
        seen = 2 * experience.index + 2
        wanted |= dict(zip(table.rows.tolist(), logits.detach()[:, :seen], strict=True))
        stored, outputs = learner.auxiliary["logits"], learner.auxiliary["outputs"]
        assert stored.shape == (len(learner.memory), seen)
        for row, values, count in zip(learner.memory.rows.tolist(), stored, outputs.tolist(), strict=True):
            assert torch.allclose(values[:count], wanted[row], atol=1e-5)
            assert not values[count:].any()
    assert len(set(outputs.tolist())) == 3


def test_bits_of_an_exemplars_logits_never_change() -> None:
    stream = digits()
    learner: Any = strategy("der_pp", stream, memory=reservoir(40))
    kept: dict[int, Tensor] = {}
    for experience in stream.experiences:
        learn(learner, shortened(experience, 64))
        found = dict(zip(learner.memory.rows.tolist(), learner.auxiliary["logits"].clone(), strict=True))
        for row in kept.keys() & found.keys():
            assert torch.equal(found[row][: len(kept[row])], kept[row])
        assert experience.index == 0 or kept.keys() & found.keys()
        kept = found


@pytest.mark.parametrize("setting", OF_CLASSES)
def test_every_step_descends_the_formula_on_what_was_drawn(setting: Setting) -> None:
    stream = digits(setting)
    memory = reservoir(50, batch_size=20)
    learner: Any = strategy("der_pp", stream, alpha=0.3, beta=0.8, memory=memory)
    tasks, steps = stream.task_of_class, []
    loss = learner.loss

    def watched(batch: Batch) -> Tensor:
        places = learner.places[0].clone()
        result: Tensor = loss(batch)
        # Batch norm in training mode goes by the batch alone, so a second pass gives the same logits.
        logits = learner.model.all_logits(batch).detach().double()
        groups = range(len(batch["label"]))
        new, matched, labelled = groups[:-40], groups[-40:-20], groups[-20:]

        def cross_entropy(i: int) -> Tensor:
            label = int(batch["label"][i])
            rivals = [
                j for j in range(logits.shape[1]) if setting is Setting.CLASS_INCREMENTAL or tasks[j] == tasks[label]
            ]
            value: Tensor = logits[i, rivals].logsumexp(0) - logits[i, label]
            return value

        total = torch.stack([cross_entropy(i) for i in new]).mean()
        total += 0.8 * torch.stack([cross_entropy(i) for i in labelled]).mean()
        for i, place in zip(matched, places[0].tolist(), strict=True):
            assert batch["label"][i] == learner.memory.labels[place]
            count = int(learner.auxiliary["outputs"][place])
            gap = logits[i, :count] - learner.auxiliary["logits"][place, :count]
            total += 0.3 * gap.square().mean() / 20
        steps.append((float(result.detach()), float(total), places))
        return result

    learn(learner, shortened(stream.experiences[0], 64))
    learn(learner, shortened(stream.experiences[1], 64))
    learner.loss = watched
    learn(learner, shortened(stream.experiences[2], 64))
    assert len(steps) == 2
    for got, wanted, places in steps:
        assert abs(got - wanted) < 1e-4
        assert all(len(set(draw.tolist())) == 20 for draw in places)
        assert not torch.equal(places[0], places[1])
    assert not torch.equal(steps[0][2], steps[1][2])


def test_the_first_experience_is_learnt_as_naive_learns_it() -> None:
    stream = digits()
    learners = [strategy(name, stream) for name in ("naive", "der_pp")]
    for learner in learners:
        learn(learner, shortened(stream.experiences[0], 64))
    naive, dark = (list(learner.model.parameters()) for learner in learners)
    assert all(torch.equal(a, b) for a, b in zip(naive, dark, strict=True))


def test_what_is_stored_is_exemplars_their_logits_and_how_many_of_these_there_are() -> None:
    stream = digits()
    learner: Any = strategy("der_pp", stream, memory=reservoir(10))
    for experience in stream.experiences[:2]:
        learn(learner, shortened(experience, 64))
    row_bytes = stream.experiences[0].train.source.row_bytes
    assert learner.stored_bytes() == 10 * (row_bytes + 4 * 4 + 8)


def test_it_learns_the_same_from_tables_on_disk_whose_batches_are_gathered_ahead() -> None:
    stream, models = digits(), []
    for mapped in (False, True):
        learner: Any = strategy("der_pp", stream, memory=reservoir(40, batch_size=10))
        source = Source(stream.experiences[0].train.source.columns, mapped=mapped)
        for experience in stream.experiences[:3]:
            rows = shortened(experience, 128).train.rows
            learn(learner, replace(experience, train=Table(source, rows)))
        models.append(list(learner.model.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(*models, strict=True))


def test_a_memory_that_takes_no_new_row_is_no_problem() -> None:
    stream = digits()
    learner: Any = strategy("der_pp", stream, memory=reservoir(1))
    for experience in stream.experiences[:4]:
        learn(learner, shortened(experience, 32))
        assert learner.auxiliary["logits"].shape == (1, 2 * experience.index + 2)


def test_it_keeps_more_of_the_old_classes_than_naive_and_each_term_has_its_part() -> None:
    stream = digits()
    old: dict[str, float] = {}
    cases: dict[str, dict[str, Any]] = {
        "naive": {},
        "both": {},
        "logits": {"alpha": 1.0, "beta": 0.0},
        "labels": {"alpha": 0.0},
        "neither": {"alpha": 0.0, "beta": 0.0},
    }
    for case, values in cases.items():
        learner = strategy("naive" if case == "naive" else "der_pp", stream, epochs=3, **values)
        for experience in stream.experiences[:3]:
            learn(learner, experience)
        old[case] = sum(m.correct for m in measure(learner, stream, 3)[:2])
    assert old["both"] > old["naive"] + 50
    assert old["labels"] > old["neither"] + 30
    assert old["logits"] > old["neither"] + 10


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"memory": MemoryConfig(capacity=0)}, r"strategy\.memory\.capacity must be >= 1 for der_pp, got 0"),
        ({"alpha": -1.0}, r"strategy\.alpha must be >= 0, got -1.0"),
        ({"beta": -1.0}, r"strategy\.beta must be >= 0, got -1.0"),
    ],
)
def test_values_out_of_range_name_field_rule_and_value(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DERppConfig(**values)
