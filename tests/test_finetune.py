from __future__ import annotations

import math

import pytest
import torch

from clbench.engine import learn
from clbench.errors import ConfigError, DivergedError
from clbench.finetune import FineTune, FineTuneConfig, Optimizer, Schedule, rate
from clbench.seeding import generator, isolated
from tests.learning import digits, problem, shortened, strategy


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


@pytest.mark.parametrize(
    ("field", "value"),
    [("lr", 0.0), ("lr", float("inf")), ("epochs", 0), ("batch_size", 0), ("momentum", 1.0), ("clip", 0.0)],
)
def test_values_out_of_range_name_field_rule_and_value(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"strategy.{field} must be .*, got"):
        FineTuneConfig(**{field: value})  # type: ignore[arg-type]
