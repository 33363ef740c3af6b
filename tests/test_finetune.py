from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from clbench.engine import learn
from clbench.errors import ConfigError, DivergedError
from clbench.finetune import FineTune, FineTuneConfig, Optimizer, Schedule, rate
from clbench.seeding import generator, isolated
from clbench.table import Batch, Table
from tests.learning import digits, instructions, problem, shortened, strategy, text_problem


@pytest.mark.parametrize("optimizer", Optimizer)
def test_learning_is_the_bare_torch_loop(optimizer: Optimizer) -> None:
    """The same mathematics written out: same order, same batches, same updates."""
    stream = digits()
    experience = shortened(stream.experiences[0], 100)
    config = FineTuneConfig(epochs=2, lr=0.01, optimizer=optimizer, weight_decay=1e-3, clip=0.5)
    learner = FineTune(config, problem(stream))
    learn(learner, experience)

    model = problem(stream).model()
    with isolated(0, "learn", 0):
        model.grow(2)
    kinds = {Optimizer.SGD: torch.optim.SGD, Optimizer.ADAM: torch.optim.Adam, Optimizer.ADAMW: torch.optim.AdamW}
    extra = {"momentum": 0.9} if optimizer is Optimizer.SGD else {}
    update = kinds[optimizer](model.parameters(), lr=0.01, weight_decay=1e-3, **extra)
    order, step, steps = generator(0, "order", 0), 0, 2 * 4
    for _ in range(2):
        for index in torch.randperm(100, generator=order).split(32):
            batch = stream.transform.evaluate(experience.train.source.take(experience.train.rows[index]))
            update.param_groups[0]["lr"] = 0.01 * (1 + math.cos(math.pi * step / steps)) / 2
            update.zero_grad()
            model.train()
            torch.nn.functional.cross_entropy(model.all_logits(batch), batch["label"]).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            update.step()
            step += 1
    for (name, got), wanted in zip(learner.model.named_parameters(), model.parameters(), strict=True):
        assert torch.allclose(got, wanted, atol=1e-5), name


def test_hooks_are_called_in_the_order_that_the_docstring_draws() -> None:
    calls: list[str] = []

    class Watched(FineTune):
        def begin(self, experience: object) -> None:
            calls.append("begin")

        def loss(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
            calls.append("loss")
            return super().loss(batch)

        def after_step(self) -> None:
            calls.append("after_step")

        def end(self, experience: object) -> None:
            calls.append("end")

    stream = digits()
    learn(Watched(FineTuneConfig(epochs=1), problem(stream)), shortened(stream.experiences[0], 64))
    assert calls == ["begin", "loss", "after_step", "loss", "after_step", "end"]


def test_a_loss_that_is_not_finite_is_said_at_the_end_of_the_epoch() -> None:
    stream = digits()
    learner = strategy("naive", stream, lr=1e6, epochs=5)
    with pytest.raises(DivergedError, match="the loss of experience 0 is"):
        learn(learner, stream.experiences[0])


def test_schedules() -> None:
    def course(schedule: Schedule) -> list[float]:
        return [round(rate(schedule, step, 5, 2), 6) for step in range(10)]

    assert course(Schedule.CONSTANT) == [1] * 10
    assert course(Schedule.STEP) == [1] * 6 + [0.1] * 2 + [0.01] * 2
    assert course(Schedule.LATE_STEP) == [1] * 9 + [0.1]
    assert course(Schedule.COSINE_EPOCHS) == [1] * 5 + [0.5] * 5
    cosine = course(Schedule.COSINE)
    assert cosine[0] == 1
    assert abs(cosine[5] - 0.5) < 1e-12
    assert abs(rate(Schedule.COSINE, 10, 5, 2)) < 1e-12
    assert cosine == sorted(cosine, reverse=True)


def rates(examples: int = 128, **values: Any) -> list[float]:
    """The learning rate of each step over one experience."""
    found: list[float] = []

    class Watched(FineTune):
        def _step(self, optimizer: torch.optim.Optimizer, trainable: list[torch.nn.Parameter]) -> None:
            found.append(optimizer.param_groups[0]["lr"])
            super()._step(optimizer, trainable)

    stream = digits()
    config = FineTuneConfig(**{"epochs": 2, "lr": 0.08} | values)
    learn(Watched(config, problem(stream)), shortened(stream.experiences[0], examples))
    return found


def test_warming_up_rises_in_a_straight_line_to_the_schedules_course() -> None:
    plain = rates()
    assert len(plain) == 8
    assert rates(warmup=0.5) == pytest.approx([plain[i] * min(1, (i + 1) / 4) for i in range(8)])
    steady = rates(warmup=0.5, schedule=Schedule.CONSTANT)
    assert steady == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.08, 0.08, 0.08, 0.08])
    assert rates(warmup=0.01, schedule=Schedule.CONSTANT) == [0.08] * 8  # less than a step


def test_the_rate_follows_steps_not_batches() -> None:
    assert rates(batch_size=8, accumulate=4, warmup=0.3) == rates(batch_size=32, warmup=0.3)
    assert rates(100, batch_size=16, accumulate=3) == rates(100, batch_size=48)  # 7 batches make 3 steps


@pytest.mark.parametrize(("examples", "size", "together"), [(96, 16, 2), (80, 16, 2), (100, 10, 4)])
def test_batches_whose_gradients_are_averaged_are_one_larger_batch(examples: int, size: int, together: int) -> None:
    """Also where an epoch ends in fewer of them: the next one begins anew."""
    stream = digits()
    ends = []
    for batch_size, accumulate in ((size, together), (size * together, 1)):
        config = FineTuneConfig(epochs=3, lr=0.05, batch_size=batch_size, accumulate=accumulate, clip=0.5)
        learner = FineTune(config, problem(stream, model="small_vit", width=8))
        learn(learner, shortened(stream.experiences[0], examples))
        ends.append({name: p.detach() for name, p in learner.model.named_parameters()})
    start = dict(problem(stream, model="small_vit", width=8).model().named_parameters())
    for name, got in ends[0].items():
        torch.testing.assert_close(got, ends[1][name], atol=1e-5, rtol=1e-4)
    assert any(not torch.allclose(got, start[name], atol=1e-3) for name, got in ends[0].items() if name in start)


def test_bucketed_batches_hold_every_text_with_less_padding() -> None:
    stream = instructions().stream(0)
    experience = replace(stream.experiences[1], train=Table(stream.experiences[1].train.source))  # of all tasks

    def learnt(bucketed: bool) -> list[Batch]:
        found: list[Batch] = []

        class Watched(FineTune):
            def loss(self, batch: Batch) -> torch.Tensor:
                found.append(batch)
                return next(self.model.parameters()).sum()

        scenario = instructions()
        learn(
            Watched(FineTuneConfig(epochs=1, batch_size=16, bucketed=bucketed), text_problem(scenario, stream)),
            experience,
        )
        return found

    plain, sorted_, again = learnt(False), learnt(True), learnt(True)
    cells = [sum(batch["tokens"].numel() for batch in batches) for batches in (plain, sorted_)]
    needed = int(experience.train.column("length").sum())
    assert needed <= cells[1] < needed + 0.3 * (cells[0] - needed)
    assert all(torch.equal(a["tokens"], b["tokens"]) for a, b in zip(sorted_, again, strict=True))
    rows = [sorted(row for batch in batches for row in trimmed(batch)) for batches in (plain, sorted_)]
    assert rows[0] == rows[1]
    lengths = [batch["tokens"].shape[1] for batch in sorted_]
    assert lengths != sorted(lengths)  # batches come in no order of length


def trimmed(batch: Batch) -> list[list[int]]:
    return [row[:length] for row, length in zip(batch["tokens"].tolist(), batch["length"].tolist(), strict=True)]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("lr", 0.0), ("lr", float("inf")), ("epochs", 0), ("batch_size", 0), ("momentum", 1.0), ("clip", 0.0)),
        *(("warmup", 1.0), ("warmup", -0.1), ("accumulate", 0)),
    ],
)
def test_values_out_of_range_name_field_rule_and_value(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"strategy.{field} must be .*, got"):
        FineTuneConfig(**{field: value})  # type: ignore[arg-type]
