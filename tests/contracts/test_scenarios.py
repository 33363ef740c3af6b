"""What every scenario must be, run over every scenario that is found."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from clbench.errors import DataError, LeakError
from clbench.record import Part, Setting
from clbench.scenario import Handle, Modality, Scenario, Stream, scenarios
from clbench.scenarios.edits import Origin
from clbench.texts.suites import LONG_SEQUENCE_ORDERS, SUPERNI_ORDERS, TRACE_ORDER
from tests.learning import skip_without_package
from tests.pictures import make_folder
from tests.texts_on_disk import EMBEDDED, SHORT, make_edits, make_files, make_trace

GIVEN: dict[str, dict[str, Any]] = {
    "avalanche": {"name": "tests.avalanche_benchmarks:digits"},
    "folder": {"path": Path("imagenet100")},
    "superni": SHORT,
    "long_sequence": SHORT,
    "trace": SHORT,
    "tasks": {**SHORT, "files": [f"superni15/{name}.json" for name in SUPERNI_ORDERS[1][:4]]},
    "edits": {"source": Origin.FILE, "path": Path("edits.json"), "edits": None, "per_experience": 4},
}
"""What a scenario that has no data of its own is told."""

MADE = {"digits", "glyphs", "imagenet100", "instructions", "world", *GIVEN}
"""Scenarios whose data come with a package, are drawn, or are made here."""


TEXTS = ("superni", "long_sequence", "trace", "tasks")
"""Scenarios whose files are made here, for a model that comes with the package and is none of theirs."""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lists = pytest.importorskip("clbench.scenarios.imagenet100").lists()
    return make_folder(tmp_path_factory.mktemp("data") / "imagenet100", lists["podnet"]).parent


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("texts")
    make_files(root / "superni15", SUPERNI_ORDERS[1])
    make_files(root / "long_sequence", LONG_SEQUENCE_ORDERS[4])
    make_trace(root / "trace", TRACE_ORDER)
    make_edits(root / "edits.json")
    return root


@pytest.fixture(params=scenarios.names())
def scenario(request: pytest.FixtureRequest) -> Scenario:
    skip_without_package(request.param)
    if request.param not in MADE and "CLBENCH_DATA" not in os.environ:
        pytest.skip("CLBENCH_DATA is not set, and nothing is downloaded in tests")
    cls, config = scenarios.load(request.param)
    fixtures = {"folder": "pictures", "imagenet100": "pictures", **dict.fromkeys((*TEXTS, "edits"), "texts")}
    root = request.getfixturevalue(fixtures[request.param]) if request.param in fixtures else None
    model = EMBEDDED if request.param in TEXTS else None
    found = cls(config(**GIVEN.get(request.param, {})), root, "cpu", model)
    try:
        found.check(Part.WHOLE)
    except DataError as error:
        pytest.skip(str(error))
    return found


def rows(stream: Stream) -> list[Any]:
    """Training examples by their rows; edits, which have rows of their own in each stream, by their prompts."""
    tables = [experience.train for experience in stream.experiences]
    if stream.setting is not Setting.EDITING:
        return [int(row) for table in tables for row in table.rows]
    shown = [zip(table.column("tokens").tolist(), table.column("prompt").tolist(), strict=True) for table in tables]
    return [tuple(tokens[:length]) for table in shown for tokens, length in table]


def test_a_stream_is_a_function_of_the_seed(scenario: Scenario) -> None:
    one, same, other = scenario.stream(3), scenario.stream(3), scenario.stream(4)
    assert one.digest == same.digest
    assert rows(one) == rows(same)
    if one.setting is not Setting.INSTRUCTION:  # tasks in words come in the order that is published
        assert one.digest != other.digest
        assert rows(one) != rows(other)


def test_labels_count_classes_in_order_of_arrival(scenario: Scenario) -> None:
    stream = scenario.stream(0)
    seen = 0
    for index, experience in enumerate(stream.experiences):
        assert experience.index == index
        assert experience.classes == tuple(range(seen, seen + len(experience.classes)))
        seen += len(experience.classes)
        for table in (experience.train, experience.test):
            assert set(table.column("label").tolist()) == set(experience.classes)
            assert set(table.column("task").tolist()) == {index}
        ahead = stream.setting in (Setting.TASK_INCREMENTAL, Setting.INSTRUCTION)
        assert experience.outputs == (len(stream.task_of_class) if ahead else seen)


def test_no_example_belongs_to_two_experiences_or_to_training_and_test(scenario: Scenario) -> None:
    stream = scenario.stream(0)
    numbers = rows(stream)
    assert len(set(numbers)) == len(numbers)
    assert all(e.train.source is not e.test.source for e in stream.experiences)


def test_the_halves_share_no_example_and_make_up_the_whole(scenario: Scenario) -> None:
    tuning, evaluation = (handle.open(0) for handle in scenario.halves())
    assert not set(rows(tuning)) & set(rows(evaluation))
    assert sorted(rows(tuning) + rows(evaluation)) == sorted(rows(scenario.stream(0)))
    if tuning.setting is not Setting.EDITING:  # edits have no names but their numbers
        assert [e.name for e in tuning.experiences] != [e.name for e in evaluation.experiences]


def test_swapped_and_redrawn_halves(scenario: Scenario) -> None:
    def half(part: Part, split_seed: int | None, swap: bool) -> list[Any]:
        return sorted(rows(scenario.stream(0, part, split_seed, swap)))

    assert half(Part.TUNING_HALF, None, False) == half(Part.EVALUATION_HALF, None, True)
    assert half(Part.TUNING_HALF, 7, False) == half(Part.TUNING_HALF, 7, False) != half(Part.TUNING_HALF, None, False)
    assert not set(half(Part.TUNING_HALF, 7, False)) & set(half(Part.EVALUATION_HALF, 7, False))


def test_a_handle_opens_its_own_part_only(scenario: Scenario) -> None:
    tuning = Handle(scenario, Part.TUNING_HALF)
    for part in (Part.EVALUATION_HALF, Part.WHOLE):
        with pytest.raises(LeakError, match="may open the tuning half only"):
            tuning.open(0, part)


def test_its_rows_are_prompts_and_answers(scenario: Scenario) -> None:
    if scenario.modality is not Modality.TEXTS:
        pytest.skip("a stream of images")
    stream = scenario.stream(0)
    for experience in stream.experiences:
        for table in (experience.train, experience.test):
            batch = stream.transform.evaluate(next(table.batches(16)))
            assert batch["tokens"].dtype == torch.int64
            assert batch["tokens"].shape[1] == int(batch["length"].max()) <= stream.shape[0]
            assert bool((batch["prompt"] > 0).all() and (batch["prompt"] < batch["length"]).all())
            shown = stream.answers.question(batch)
            assert not {"label", "task", "example"} & set(shown)
            for row in range(len(batch["length"])):
                assert len(set(shown["tokens"][row, int(batch["prompt"][row]) :].tolist())) <= 1, "an answer is shown"


def test_its_transform_gives_what_a_network_takes(scenario: Scenario) -> None:
    if scenario.modality is not Modality.IMAGES:
        pytest.skip("a stream of texts")
    stream = scenario.stream(0)
    batch = next(stream.experiences[0].train.batches(16))
    trained = stream.transform.train(batch, torch.Generator().manual_seed(0))["image"]
    shown = stream.transform.evaluate(batch)["image"]
    assert trained.shape == shown.shape == (16, *stream.shape)
    assert trained.dtype == shown.dtype == torch.float32
    assert abs(float(shown.mean())) < 1
    assert 0.15 < float(shown.std()) < 3  # inputs that stay in [0, 1] vary by about 0.27
