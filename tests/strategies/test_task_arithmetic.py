from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from clbench import inherited
from clbench.engine import learn
from clbench.errors import ConfigError
from clbench.examination import measure
from clbench.models.config import HeadKind, ModelConfig
from clbench.record import Setting
from clbench.strategies.task_arithmetic import TaskArithmetic, TaskArithmeticConfig, added
from tests.learning import digits, problem, shortened, strategy

Numbers = dict[str, Tensor]


def numbers(learner: Any) -> Numbers:
    return inherited.copies(inherited.numbers(learner.model))


def test_what_is_added_is_the_scaled_change_in_the_rows_that_the_start_has() -> None:
    before, tuned, start = torch.arange(6.0).view(3, 2), torch.full((3, 2), 10.0), torch.full((2, 2), 4.0)
    assert added(before, tuned, start, 0.5).tolist() == [[3, 4], [5, 6], [4, 5]]
    assert added(torch.tensor(1.0), torch.tensor(3.0), torch.tensor(2.0), 0.5) == 1.5
    assert before.tolist() == [[0, 1], [2, 3], [4, 5]]


def test_with_all_rows_from_the_start_it_is_the_papers_formula_over_independent_trainings() -> None:
    stream = digits(Setting.TASK_INCREMENTAL)
    learner = strategy("task_arithmetic", stream, model="small_cnn", scale=0.3)
    learn(learner, shortened(stream.experiences[0], 64))
    start, state = numbers(learner), copy.deepcopy(learner.state())
    tuned = []
    for experience in stream.experiences[1:4]:
        learn(learner, shortened(experience, 64))
        alone = strategy("naive", stream, model="small_cnn")
        alone.restore(copy.deepcopy(state))
        learn(alone, shortened(experience, 64))
        tuned.append(numbers(alone))
    trained = {name for name, _ in learner.model.named_parameters()}
    for name, got in numbers(learner).items():
        vectors = torch.stack([after[name].double() - start[name].double() for after in tuned])
        change = 0.3 * vectors.sum(0) if name in trained else vectors.mean(0)  # statistics of batch norm: their mean
        assert torch.allclose(got.double(), start[name] + change, atol=1e-5), name
    assert any(name not in trained for name in start)


def test_the_order_of_experiences_does_not_matter() -> None:
    stream = digits(Setting.TASK_INCREMENTAL)
    found = []
    for order in ((0, 1, 2, 3), (0, 3, 1, 2)):
        learner = strategy("task_arithmetic", stream, model="small_vit")
        for index in order:
            learn(learner, shortened(stream.experiences[index], 64))
        found.append(numbers(learner))
    assert all(torch.allclose(found[0][name], found[1][name], atol=1e-5) for name in found[0])


def test_rows_that_a_head_grew_since_the_start_stay_as_their_own_experience_left_them() -> None:
    stream = digits()
    learner = strategy("task_arithmetic", stream, model="small_cnn")
    starts, tuned = [], []
    begin, end = learner.begin, learner.end

    def begun(experience: Any) -> None:
        begin(experience)
        starts.append(numbers(learner))

    def ended(experience: Any) -> None:
        tuned.append(numbers(learner))
        end(experience)

    learner.begin, learner.end = begun, ended
    finals = []
    for experience in stream.experiences[:4]:
        learn(learner, shortened(experience, 64))
        finals.append(numbers(learner))
    assert all(torch.equal(finals[0][name], tuned[0][name]) for name in tuned[0])  # the first is trained as usual
    for step in (1, 2, 3):
        assert all(torch.equal(starts[step][name][:2], finals[0][name][:2]) for name in finals[0])
    for name in ("head.weight", "head.bias"):
        vectors = [after[name][:2] - finals[0][name] for after in tuned[1:]]
        assert torch.allclose(finals[3][name][:2], finals[0][name] + 0.4 * sum(vectors), atol=1e-5)
        for step in (1, 2, 3):
            rows = slice(2 * step, 2 * step + 2)
            assert torch.equal(finals[3][name][rows], tuned[step][name][rows])
    assert not torch.equal(tuned[3]["head.weight"][2:4], tuned[1]["head.weight"][2:4])  # which training did change


def test_a_pretrained_model_is_the_start_itself() -> None:
    stream = digits()
    learner = TaskArithmetic(TaskArithmeticConfig(epochs=1, scale=0.0), replace(problem(stream), pretrained=True))
    start = numbers(learner)
    for experience in stream.experiences[:2]:
        learn(learner, shortened(experience, 64))
    trained = {name for name, p in learner.model.named_parameters() if "backbone" in name}
    end = numbers(learner)
    assert all(torch.equal(end[name], start[name]) for name in trained)
    assert len(end["head.weight"]) == 4  # grown, and no part of a vector
    assert learner.stored_bytes() == sum(4 * t.numel() for t in start.values())


def test_variances_of_batch_norm_stay_positive_whatever_the_scale() -> None:
    stream = digits()
    learner = strategy("task_arithmetic", stream, model="small_cnn", scale=1.0, lr=0.2, epochs=3)
    for experience in stream.experiences:
        learn(learner, shortened(experience, 64))
    state = learner.model.state_dict()
    variances = [t for name, t in state.items() if name.endswith("running_var")]
    assert variances
    assert all((variance > 0).all() for variance in variances)
    assert len(measure(learner, stream, 5)) == 5


def test_a_cosine_heads_scale_is_a_part_of_the_vector() -> None:
    from clbench.models.classifier import build_classifier

    stream = digits()
    config = ModelConfig("small_cnn", width=4, head=HeadKind.COSINE)
    told = replace(problem(stream), model=lambda: build_classifier(config, (1, 8, 8), "small_cnn"))
    learner = TaskArithmetic(TaskArithmeticConfig(epochs=1), told)
    for experience in stream.experiences[:3]:
        learn(learner, shortened(experience, 64))
    assert learner.model.get_parameter("head.scale").isfinite()


def test_a_scale_below_zero_is_one_sentence() -> None:
    with pytest.raises(ConfigError, match=r"strategy\.scale must be >= 0"):
        TaskArithmeticConfig(scale=-0.1)
