"""The scenarios of published text tasks, and of any list of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from clbench.errors import CheckpointError, ClbenchError, ConfigError, DataError, UnknownNameError
from clbench.models.config import ModelConfig
from clbench.record import Part
from clbench.scenario import Scenario, scenarios
from clbench.texts.suites import LONG_SEQUENCE_ORDERS, SUPERNI_ORDERS, TRACE_ORDER
from clbench.texts.tokens import rejected
from tests.texts_on_disk import EMBEDDED, SHORT, make_files, make_folders, make_trace, real_suite, write


def scenario(name: str, root: Path, model: ModelConfig = EMBEDDED, **values: Any) -> Scenario:
    cls, config = scenarios.load(name)
    return cls(config(**{**SHORT, **values}), root, "cpu", model)


def names(found: Scenario) -> list[str]:
    return [experience.name for experience in found.stream(0).experiences]


@pytest.mark.parametrize(("order", "make"), [("1", make_files), ("2", make_folders)])
def test_superni_comes_in_its_published_orders(tmp_path: Path, order: str, make: Any) -> None:
    make(tmp_path / "superni15", SUPERNI_ORDERS[1])
    kind = type(scenarios.load("superni")[1]().list)
    assert names(scenario("superni", tmp_path, list=kind(order))) == list(SUPERNI_ORDERS[int(order)])


def test_a_few_tasks_keep_the_suites_order(tmp_path: Path) -> None:
    listed = SUPERNI_ORDERS[1]
    make_files(tmp_path / "superni15", listed)
    assert names(scenario("superni", tmp_path, tasks=[listed[4], listed[2]])) == [listed[2], listed[4]]
    with pytest.raises(UnknownNameError, match=f"unknown task 'task363'.*{listed[0]}"):
        scenario("superni", tmp_path, tasks=["task363"]).check(Part.WHOLE)


@pytest.mark.parametrize("order", ["4", "5", "6"])
def test_a_long_sequence_without_a_task_is_refused_or_goes_on_without_it(tmp_path: Path, order: str) -> None:
    listed = LONG_SEQUENCE_ORDERS[int(order)]
    make_files(tmp_path / "text" / "long_sequence", [name for name in listed if name != "yahoo"])
    config = scenarios.load("long_sequence")[1]()
    kind, missing = type(config.list), type(config.missing)
    with pytest.raises(DataError, match=r"lacks 1 of 15 tasks: yahoo; .*scenario\.missing=skip"):
        scenario("long_sequence", tmp_path, list=kind(order)).check(Part.WHOLE)
    found = scenario("long_sequence", tmp_path, list=kind(order), missing=missing.SKIP)
    assert names(found) == [name for name in listed if name != "yahoo"]


def test_trace_reads_its_release(tmp_path: Path) -> None:
    make_trace(tmp_path / "trace", TRACE_ORDER)
    found = scenario("trace", tmp_path, template="{input}")
    assert names(found) == list(TRACE_ORDER)
    stream = found.stream(0)
    assert [len(experience.train) for experience in stream.experiences] == [20] * 8
    scores = {score for _, score in stream.answers.asked}  # type: ignore[attr-defined]
    assert {"exact_match", "rouge_l", "sari", "fuzzy_ratio", "first_character"} & scores


def test_a_suite_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLBENCH_DATA", raising=False)
    with pytest.raises(DataError, match="superni15"):
        scenario("superni", tmp_path).check(Part.WHOLE)


def test_a_model_that_is_no_folder_and_cannot_be_fetched_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable() -> None:
        raise OSError("no route to the hub")

    monkeypatch.setattr("clbench.models.language.reach_hub", unreachable)
    make_files(tmp_path / "superni15", SUPERNI_ORDERS[1])
    with pytest.raises(CheckpointError, match=r"no language model 'nobody/nothing'.*model\.name=FOLDER") as raised:
        scenario("superni", tmp_path, ModelConfig("nobody/nothing")).check(Part.WHOLE)
    assert "\n" not in str(raised.value)


def lines(path: Path, count: int) -> Path:
    path.write_text("".join(json.dumps({"input": f"q{n}", "output": f"a{n}"}) + "\n" for n in range(count)))
    return path


def test_tasks_are_files_in_the_order_in_which_they_are_named(tmp_path: Path) -> None:
    lines(tmp_path / "sums.jsonl", 30)
    (tmp_path / "poems").mkdir()
    lines(tmp_path / "poems" / "a.jsonl", 12)
    lines(tmp_path / "poems" / "b.jsonl", 3)
    stream = scenario("tasks", tmp_path, files=["sums.jsonl", "poems/a.jsonl|poems/b.jsonl"]).stream(0)
    assert [experience.name for experience in stream.experiences] == ["sums", "a"]
    assert [(len(e.train), len(e.test)) for e in stream.experiences] == [(27, 3), (12, 3)]


@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        ({}, ConfigError, r"scenario=tasks needs tasks: scenario\.files="),
        ({"files": ["sums.jsonl", "sums.jsonl"]}, ConfigError, "name sums.jsonl twice"),
        ({"files": ["gone.jsonl"]}, DataError, r"gone\.jsonl"),
        ({"files": ["broken.jsonl"]}, DataError, r"broken\.jsonl.*line 2"),
        ({"files": ["empty.json"]}, DataError, r"empty\.json"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, values: dict[str, Any], error: type[ClbenchError], words: str) -> None:
    lines(tmp_path / "sums.jsonl", 30)
    (tmp_path / "broken.jsonl").write_text('{"input": "q", "output": "a"}\n{"input": \n')
    write(tmp_path / "empty.json", [{"input": "q", "output": ""}] * 3)
    with pytest.raises(error, match=words) as raised:
        scenario("tasks", tmp_path, **values).stream(0)
    assert "\n" not in str(raised.value)


def test_rejected_answers_of_ones_own_file_are_there_to_learn_from(tmp_path: Path) -> None:
    rows = [{"input": f"sum {n}", "output": str(n), "worse": str(n + 1)} for n in range(20)]
    for name in ("train.json", "more.json"):
        write(tmp_path / name, rows)
    write(tmp_path / "test.json", [{"input": "sum", "output": "0"}])  # what is only asked needs none
    files = f"{tmp_path / 'train.json'}|{tmp_path / 'test.json'}"
    found = scenario("tasks", tmp_path, files=[files, str(tmp_path / "more.json")], rejected="worse")
    for experience in found.stream(0).experiences:
        batch = experience.train.source.columns
        wrong = rejected(batch)
        assert ((batch["tokens"] != wrong["tokens"][:, : batch["tokens"].shape[1]]).any(1)).all()
        assert torch.equal(batch["prompt"], wrong["prompt"])
    with pytest.raises(DataError, match="'better'"):
        scenario("tasks", tmp_path, files=[files], rejected="better").stream(0)


def test_an_unknown_score_is_refused() -> None:
    _, config = scenarios.load("tasks")
    with pytest.raises(ClbenchError, match=r"scenario\.score"):
        config(score="blue")


def test_real_superni_fits_the_embedded_tokenizer_and_tells_what_it_cut() -> None:
    folder = real_suite("superni15")
    found = scenario("superni", folder.parent, tasks=["task363_sst2_polarity_classification"], test_per_task=20)
    (experience,) = found.stream(0).experiences
    assert len(experience.test) == 20
    assert experience.shortened > 0, "a model that looks at 128 characters cannot take these prompts whole"
