"""Scenarios in Avalanche's hands, and its benchmarks in ours."""

from __future__ import annotations

import random
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clbench.errors import ClbenchError, ConfigError, DataError, IncompatibleError, UnknownNameError
from clbench.record import Part, Setting
from clbench.scenario import Stream, scenarios
from tests.learning import OF_CLASSES, digits

pytest.importorskip("avalanche", reason="Avalanche is not installed")

OWN = "tests.avalanche_benchmarks:"


def scenario(name: str | None, root: Path | None = None, order: str = "drawn", **arguments: Any) -> Any:
    cls, config = scenarios.load("avalanche")
    made = config(name=name, arguments=arguments)
    made.order = type(made.order)(order)
    return cls(made, root)


def returned(setting: str, seed: int) -> Any:
    """Our digits, through Avalanche's hands; a function that a user might write."""
    from clbench.avalanche import benchmark

    return benchmark(digits(Setting(setting), seed))


@pytest.mark.parametrize("setting", OF_CLASSES)
def test_a_scenario_becomes_a_benchmark_with_the_same_examples(setting: Setting) -> None:
    from clbench.avalanche import benchmark

    stream = digits(setting)
    made = benchmark(stream)
    for ours, train, test in zip(stream.experiences, made.train_stream, made.test_stream, strict=True):
        assert set(train.classes_in_this_experience) == set(ours.classes)
        assert set(train.classes_seen_so_far) == set(range(ours.classes[-1] + 1))
        task = ours.index if setting is Setting.TASK_INCREMENTAL else 0
        assert (train.task_label, train.current_experience, test.current_experience) == (task, ours.index, ours.index)
        for theirs, table in ((train, ours.train), (test, ours.test)):
            batch = stream.transform.evaluate(table.source.take(table.rows))
            examples = [theirs.dataset.eval()[i] for i in range(len(theirs.dataset))]
            assert torch.equal(torch.stack([x for x, *_ in examples]), batch["image"])
            assert [y for _, y, _ in examples] == batch["label"].tolist() == list(theirs.dataset.targets)
            assert {t for *_, t in examples} == {task}


def test_a_scenario_s_augmentation_is_in_the_train_group_only() -> None:
    from dataclasses import replace

    from clbench.augment import ImageTransform
    from clbench.avalanche import benchmark

    stream = digits()
    assert isinstance(stream.transform, ImageTransform)
    stream = replace(stream, transform=replace(stream.transform, padding=2))
    made = benchmark(stream)
    for experiences, changes in ((made.train_stream, True), (made.test_stream, False)):
        data = next(iter(experiences)).dataset
        assert any(not torch.equal(data[i][0], data[i][0]) for i in range(8)) is changes
        assert all(torch.equal(data.eval()[i][0], data.eval()[i][0]) for i in range(8))


def test_avalanche_evaluates_what_we_hand_it() -> None:
    from avalanche.evaluation.metrics import accuracy_metrics
    from avalanche.models import SimpleMLP
    from avalanche.training.plugins import EvaluationPlugin
    from avalanche.training.supervised import Naive

    from clbench.avalanche import benchmark
    from clbench.avalanche.templates import quiet
    from clbench.scenario import scenarios
    from clbench.seeding import isolated

    cls, config = scenarios.load("digits")
    with quiet(), isolated(0):
        made = benchmark(cls(config()), seed=5)
        model = SimpleMLP(num_classes=10, input_size=64)
        learner = Naive(
            model=model,
            optimizer=torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9),
            evaluator=EvaluationPlugin(accuracy_metrics(stream=True), loggers=[]),
            train_mb_size=32,
            eval_mb_size=256,
        )
        learner.train(made.train_stream[0])
        found = learner.eval(made.test_stream[:1])
    assert found["Top1_Acc_Stream/eval_phase/test_stream/Task000"] > 0.9


@pytest.mark.parametrize("setting", OF_CLASSES)
def test_a_round_trip_changes_nothing(setting: Setting) -> None:
    ours = digits(setting, seed=3)
    back = scenario(f"{__name__}:returned", order="given", setting=setting.value, seed=3).stream(0)
    assert isinstance(back, Stream)
    assert back.setting is setting
    assert back.shape == ours.shape
    for one, other in zip(ours.experiences, back.experiences, strict=True):
        assert (one.index, one.classes, one.outputs) == (other.index, other.classes, other.outputs)
        for part in ("train", "test"):
            for column in ("image", "label", "task"):
                assert torch.equal(getattr(one, part).column(column), getattr(other, part).column(column))


def test_a_benchmark_of_pictures_is_read_without_its_transforms_and_without_touching_random_state() -> None:
    torch.manual_seed(1)
    before = (torch.random.get_rng_state(), np.random.get_state()[1].copy(), random.getstate())  # type: ignore[index]
    stream = scenario(OWN + "digits", seed=7).stream(0)
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # type: ignore[index]
    assert random.getstate() == before[2]
    assert [len(e.classes) for e in stream.experiences] == [2] * 5
    assert sum(len(e.train) for e in stream.experiences) == 1200
    image = stream.experiences[0].train.column("image")
    assert image.dtype == torch.uint8
    assert image.shape[1:] == stream.shape == (1, 8, 8)
    assert int(image.max()) == 240
    shown = stream.transform.evaluate(stream.experiences[0].train.source.take(torch.arange(1200)))["image"]
    assert abs(float(shown.mean())) < 1e-3
    assert abs(float(shown.std()) - 1) < 1e-3


def test_classes_keep_their_numbers_whatever_the_seed_so_that_halves_share_none() -> None:
    found = scenario(OWN + "digits")
    halves = {}
    for part in (Part.TUNING_HALF, Part.EVALUATION_HALF):
        names = [[e.name for e in found.stream(seed, part).experiences] for seed in (0, 1)]
        assert names[0] != names[1]
        halves[part] = [{digit for name in half for digit in name.split(", ")} for half in names]
        assert [len(e.classes) for e in found.stream(0, part).experiences] == [2, 2, 1]
    assert halves[Part.TUNING_HALF] == [set("01234")] * 2
    assert halves[Part.EVALUATION_HALF] == [set("56789")] * 2


def test_the_given_order_is_the_benchmark_s() -> None:
    classes = list(range(10))[::-1]
    found = scenario(OWN + "digits", order="given", n_experiences=2, fixed_class_order=classes)
    assert [e.name for e in found.stream(0).experiences] == ["5, 6, 7, 8, 9", "0, 1, 2, 3, 4"]
    assert found.stream(0).digest == found.stream(1).digest
    with pytest.raises(IncompatibleError, match=r"5 classes do not make two experiences of .*:digits"):
        found.check(Part.TUNING_HALF)


def test_task_labels_make_it_task_incremental() -> None:
    assert scenario(OWN + "digits", task_labels=True).stream(0).setting is Setting.TASK_INCREMENTAL
    assert scenario(OWN + "digits").stream(0).setting is Setting.CLASS_INCREMENTAL


@pytest.mark.parametrize(
    ("name", "arguments", "error", "text"),
    [
        (None, {}, ConfigError, "needs scenario.name, e.g. SplitMNIST"),
        ("SplitMNST", {}, UnknownNameError, "unknown Avalanche benchmark 'SplitMNST'. Did you mean SplitMNIST"),
        ("SplitMNIST", {"n_experience": 2}, ConfigError, "no argument 'n_experience'. Did you mean n_experiences"),
        ("no.such:thing", {}, ConfigError, "scenario.name=no.such:thing cannot be imported: No module named 'no'"),
        (OWN + "absent", {}, ConfigError, "has no attribute 'absent'"),
        (OWN + "NUMBER", {}, ConfigError, "is no function, but of type int"),
        (OWN + "needy", {}, ConfigError, "needs scenario.arguments.folder=..."),
        (OWN + "nothing", {}, IncompatibleError, "is no benchmark with train_stream and test_stream"),
        (OWN + "broken", {}, DataError, "cannot be had (no route to host)"),
        (OWN + "digits", {"n_experiences": "two"}, ConfigError, "refuses its arguments"),
        (OWN + "digits", {"class_ids_from_zero_in_each_exp": True}, IncompatibleError, "brings class 0 a second time"),
        (OWN + "normalised", {"n_experiences": 2}, DataError, "holds torch.float32 of shape (1, 4, 4)"),
    ],
)
def test_a_mistake_gets_one_line(
    name: str | None, arguments: dict[str, Any], error: type[ClbenchError], text: str, tmp_path: Path
) -> None:
    with pytest.raises(error) as caught:
        scenario(name, tmp_path, **arguments).check(Part.WHOLE)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_classic_benchmark_without_its_data_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    with pytest.raises(DataError) as caught:
        scenario("SplitMNIST", tmp_path).check(Part.WHOLE)
    assert f"the data of SplitMNIST are not under {tmp_path} and cannot be had" in str(caught.value)
    assert "\n" not in str(caught.value)
