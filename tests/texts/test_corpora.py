from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clbench.errors import DataError, UnknownNameError
from clbench.texts.corpora import (
    Fields,
    TextExample,
    TextTask,
    hold_out,
    read_file,
    read_files,
    read_hub,
    read_long_sequence,
    read_superni,
    read_task,
    read_trace,
)
from clbench.texts.suites import LONG_SEQUENCE_ORDERS, SUPERNI_ORDERS, TRACE_ORDER

SUITES = {"superni15": SUPERNI_ORDERS[1], "long_sequence": LONG_SEQUENCE_ORDERS[4]}


def write(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    return path


def rows(count: int, **fields: Any) -> list[dict[str, Any]]:
    return [{"input": f"question {n}", "output": [f"answer {n}", "either"]} | fields for n in range(count)]


def real(suite: str) -> Path:
    """The folder of a real suite; the test is skipped where it is not there."""
    if "CLBENCH_DATA" not in os.environ:
        pytest.skip("CLBENCH_DATA is not set")
    folder = Path(os.environ["CLBENCH_DATA"]) / "text" / suite
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    return folder


@pytest.mark.parametrize("orders", [SUPERNI_ORDERS, LONG_SEQUENCE_ORDERS])
def test_the_orders_of_a_suite_are_different_orders_of_the_same_15_tasks(orders: dict[int, tuple[str, ...]]) -> None:
    assert len(set(orders.values())) == len(orders)
    assert {frozenset(order) for order in orders.values()} == {frozenset(next(iter(orders.values())))}
    assert all(len(order) == len(set(order)) == 15 for order in orders.values())


def test_a_task_with_both_parts_is_read_as_it_is(tmp_path: Path) -> None:
    train = [{"input": " x\n", "output": "a"}, {"input": "y", "output": ["b", "c"]}]
    write(tmp_path / "t.json", {"definition": ["Do.\n"], "labels": ["z"], "train": train, "test": train[:1]})
    task = read_superni(tmp_path, "t")
    first = TextExample("Do.\n", " x\n", ("a",))
    assert task == TextTask("t", "rouge_l_stemmed", (first, TextExample("Do.\n", "y", ("b", "c"))), (first,))
    assert read_task(tmp_path / "t.json", "exact_match").train == task.train


@pytest.mark.parametrize(("definition", "instruction"), [([], ""), (None, ""), ("Do.", "Do."), (["Do.", "Or."], "Do.")])
def test_a_definition_may_be_a_text_a_list_or_missing(tmp_path: Path, definition: Any, instruction: str) -> None:
    path = write(tmp_path / "t.json", {"definition": definition, "train": rows(1), "test": rows(1)})
    assert read_task(path, "exact_match").test[0].instruction == instruction


def test_natural_instructions_are_split_the_same_way_every_time(tmp_path: Path) -> None:
    instances = [row | {"id": f"t-{n}"} for n, row in enumerate(rows(30))]
    data = {"Contributors": ["x"], "Definition": ["Do."], "Positive Examples": [], "Instances": instances}
    write(tmp_path / "a" / "t.json", data)
    random.Random(0).shuffle(instances)
    write(tmp_path / "b" / "t.json", data)
    first, second = (read_superni(tmp_path / folder, "t") for folder in "ab")
    assert (len(first.train), len(first.test)) == (27, 3)
    assert {e.input for e in first.test} == {"question 20", "question 24", "question 9"}
    assert set(first.test) == set(second.test)
    assert set(first.train) == set(second.train)
    assert {e.input for e in (*first.train, *first.test)} == {f"question {n}" for n in range(30)}
    assert {e.instruction for e in first.train} == {"Do."}


def test_a_folder_per_task_is_read_without_its_dev_part(tmp_path: Path) -> None:
    for part, count in (("train", 3), ("dev", 9), ("test", 2)):
        write(tmp_path / "t" / f"{part}.json", {"Definition": [part], "Instances": rows(count)})
    task = read_long_sequence(tmp_path, "t")
    assert (len(task.train), len(task.test)) == (3, 2)
    assert {e.instruction for e in task.test} == {"test"}


def test_equal_questions_are_held_out_together_and_never_without_an_answer() -> None:
    examples = [TextExample("", f"{n % 40}", ("" if n % 40 < 10 else f"{n}",)) for n in range(80)]
    train, test = hold_out(examples, "here")
    assert len(test) == 2 * 3
    assert not {e.input for e in train} & {e.input for e in test}
    assert all(int(e.input) >= 10 for e in test)
    assert sorted(train + test, key=examples.index) == sorted(examples, key=examples.index)


def test_too_few_questions_to_hold_any_out_is_one_sentence(tmp_path: Path) -> None:
    path = write(tmp_path / "t.json", rows(1) + rows(1))
    with pytest.raises(DataError, match=r"t\.json: 1 different questions are too few to hold a test set out"):
        read_file(path)


@pytest.mark.parametrize("name", TRACE_ORDER)
def test_trace_is_read_from_a_folder_per_task(tmp_path: Path, name: str) -> None:
    for part, answer in (("train", "A"), ("eval", "B"), ("test", "C")):
        write(tmp_path / name / f"{part}.json", [{"prompt": "Choose.\nOne", "answer": answer}])
    task = read_trace(tmp_path, name)
    assert task.name == name
    assert task.train == (TextExample("", "Choose.\nOne", ("A",)),)
    assert task.test == (TextExample("", "Choose.\nOne", ("C",)),)


def test_fields_of_files_are_named(tmp_path: Path) -> None:
    train = write(tmp_path / "t.json", [{"task": "Add.", "q": "1 + 1", "a": 2}])
    test = write(tmp_path / "e.json", [{"task": "Say.", "q": "no", "a": [True, "yes"]}])
    task = read_files(train, test, Fields("task", "q", "a"), "rouge_l")
    assert task == TextTask(
        "t", "rouge_l", (TextExample("Add.", "1 + 1", ("2",)),), (TextExample("Say.", "no", ("True", "yes")),)
    )
    assert read_files(train, test, Fields(None, None, "a"), name="x").train == (TextExample("", "", ("2",)),)


def test_lines_are_read_as_a_list_is(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text("\n".join(map(json.dumps, rows(12))))
    task = read_file(path)
    assert (task.name, len(task.train), len(task.test)) == ("t", 11, 1)
    assert task.train == read_file(write(tmp_path / "t.json", rows(12))).train


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (lambda d: read_superni(d / "none", "t"), r"no folder '.*none'; t\.json or t/train\.json was looked for in it"),
        (lambda d: read_trace(d / "none", "FOMC"), r"no folder '.*none'; FOMC/train\.json was looked for"),
        (lambda d: read_trace(d, "fomc"), "TRACE has no task 'fomc'. Did you mean FOMC.* It has: C-STANCE, FOMC"),
        (lambda d: read_superni(d, "GOOOD"), r"has no task 'GOOOD' \(GOOOD\.json or .*\)\. Did you mean good\?"),
        (lambda d: read_long_sequence(d, "yahoo"), "Of the 15 published tasks it lacks: mnli, cb.* Put the task there"),
        (lambda d: read_trace(d, "FOMC"), "Of the 8 published tasks it lacks: C-STANCE, FOMC"),
        (lambda d: read_trace(d, "Py150"), "cannot read .*Py150/test.json"),
        (lambda d: read_file(d / "none.json"), r"cannot read .*none\.json \(No such file.*put the file there"),
        (lambda d: read_superni(d, "no_test"), "text task 'no_test' has no test examples"),
        (lambda d: read_superni(d, "other"), r"other\.json holds neither train and test rows nor Instances; it has: x"),
        (lambda d: read_superni(d, "string"), r"string\.json, train rows must be a JSON list of objects"),
        (lambda d: read_superni(d, "lacks"), r"lacks\.json, test row 2 lacks the field 'output'; its fields: input"),
        (lambda d: read_superni(d, "empty"), r"empty\.json, test row 1: field 'output' is an empty answer"),
        (lambda d: read_file(d / "empty_row.json"), r"empty_row\.json, row 3: field 'output' is an empty answer"),
        (lambda d: read_file(d / "good.json", Fields("x")), r"good\.json, train row 1 lacks the field 'x'"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(tmp_path: Path, read: Callable[[Path], object], message: str) -> None:
    write(tmp_path / "good.json", {"definition": ["Do."], "train": rows(2), "test": rows(2)})
    write(tmp_path / "no_test.json", {"train": rows(2)})
    write(tmp_path / "other.json", {"x": 1})
    write(tmp_path / "string.json", {"train": "x"})
    write(tmp_path / "lacks.json", {"train": rows(2), "test": [*rows(1), {"input": "x"}]})
    write(tmp_path / "empty.json", {"train": rows(2), "test": rows(1, output=["x", " "])})
    write(tmp_path / "empty_row.json", [*rows(2), *rows(1, output="")])
    write(tmp_path / "Py150" / "train.json", [{"prompt": "x", "answer": "y"}])
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value)


def test_published_training_answers_may_be_empty(tmp_path: Path) -> None:
    write(tmp_path / "t.json", {"train": rows(2, output=[""]), "test": rows(2)})
    assert read_superni(tmp_path, "t").train[0].references == ("",)


def test_an_unknown_score_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown score 'rouge_1'\. Did you mean rouge_l"):
        read_file(write(tmp_path / "t.json", rows(9)), score="rouge_1")


@pytest.mark.parametrize("name", SUITES["superni15"])
def test_the_real_super_natural_instructions_are_whole(name: str) -> None:
    task = read_superni(real("superni15"), name)
    assert len(task.train) <= 1000
    assert 16 <= len(task.test) <= 100
    assert all(example.instruction and example.input for example in (*task.train, *task.test))
    unanswered = sum(not all(example.references) for example in task.train)
    assert unanswered == (6 if name == "task511_reddit_tifu_long_text_summarization" else 0)


@pytest.mark.parametrize("name", SUITES["long_sequence"])
def test_the_real_classification_tasks_are_whole_or_named_as_missing(name: str) -> None:
    folder = real("long_sequence")
    if not (folder / f"{name}.json").exists():
        with pytest.raises(DataError, match=f"published tasks it lacks: .*{name}"):
            read_long_sequence(folder, name)
        return
    task = read_long_sequence(folder, name)
    assert len(task.train) <= 2000
    assert len(task.test) <= 500
    labels = {reference for example in task.train for reference in example.references}
    tested = {reference for example in task.test for reference in example.references}
    assert 2 <= len(labels) <= 14
    assert tested == labels | ({"-"} if name == "mnli" else set())


@pytest.mark.parametrize("suite", SUITES)
def test_the_real_test_questions_are_not_trained_on(suite: str) -> None:
    folder, read = real(suite), read_superni if suite == "superni15" else read_long_sequence
    for name in SUITES[suite]:
        if (folder / f"{name}.json").exists():
            task = read(folder, name)
            assert not {example.input for example in task.train} & {example.input for example in task.test}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The package datasets, kept from the network and from the user's cache."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    datasets = pytest.importorskip("datasets", reason="the package datasets is not installed")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return datasets


def test_a_local_folder_is_read_by_datasets(hub: Any, tmp_path: Path) -> None:
    for part, count in (("train", 20), ("test", 2)):
        lines = "\n".join(map(json.dumps, rows(count)))
        (tmp_path / "mine").mkdir(exist_ok=True)
        (tmp_path / "mine" / f"{part}.jsonl").write_text(lines)
    task = read_hub(str(tmp_path / "mine"))
    assert (task.name, len(task.train), len(task.test)) == ("mine", 20, 2)
    assert task.test[1] == TextExample("", "question 1", ("answer 1", "either"))
    assert len(read_hub(str(tmp_path / "mine"), test_split=None).test) == 2
    with pytest.raises(DataError, match=r"cannot load data set '.*mine', split dev: .*dev") as caught:
        read_hub(str(tmp_path / "mine"), test_split="dev")
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match=r"mine, train row 1 lacks the field 'text'; its fields: input, output"):
        read_hub(str(tmp_path / "mine"), fields=Fields(input="text"))


class Loaded(list[dict[str, Any]]):
    """What `datasets.load_dataset` returns, as far as it is read."""

    features: dict[str, Any]


def test_class_labels_of_datasets_become_their_names(hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    train = Loaded([{"text": "x", "label": 1}, {"text": "y", "label": 0}])
    test = Loaded([{"text": "z", "label": -1}])
    train.features = test.features = {"text": hub.Value("string"), "label": hub.ClassLabel(names=["bad", "good"])}
    monkeypatch.setattr(hub, "load_dataset", lambda name, subset, split: {"train": train, "test": test}[split])
    task = read_hub("some/reviews", "small", test_split="train", fields=Fields(input="text", output="label"))
    assert task.name == "some/reviews/small"
    assert [example.references for example in task.train] == [("good",), ("bad",)]
    with pytest.raises(DataError, match=r"some/reviews, test row 1: field 'label' must hold text, got None"):
        read_hub("some/reviews", fields=Fields(input="text", output="label"))


def test_a_data_set_that_is_not_there_is_one_sentence(hub: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot load data set 'no/such', split train: ") as caught:
        read_hub("no/such")
    assert "\n" not in str(caught.value)
