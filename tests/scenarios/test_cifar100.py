from __future__ import annotations

import hashlib
import os
import pickle
import shutil
from pathlib import Path

import pytest

from clbench.errors import ConfigError, DataError, IncompatibleError
from clbench.record import Part
from clbench.scenario import class_order, half_of_classes, increments, scenarios

Cifar100, Config = scenarios.load("cifar100")
real = pytest.mark.skipif("CLBENCH_DATA" not in os.environ, reason="CLBENCH_DATA is not set")


def test_the_order_of_seed_1993_is_the_published_one() -> None:
    order = class_order(100, 1993)
    assert order[:12] == [68, 56, 78, 8, 23, 84, 90, 65, 74, 76, 40, 89]
    assert order[-5:] == [67, 29, 49, 57, 33]
    digest = hashlib.sha256(",".join(map(str, order)).encode()).hexdigest()
    assert digest[:16] == "997a048a5344d216"


@pytest.mark.parametrize(
    ("count", "base", "increment", "sizes"),
    [
        (100, 0, 10, [10] * 10),
        (100, 50, 10, [50] + [10] * 5),
        (50, 25, 5, [25] + [5] * 5),
        (10, 0, 4, [4, 4, 2]),
        (5, 0, 2, [2, 2, 1]),
    ],
)
def test_increments_are_the_fields(count: int, base: int, increment: int, sizes: list[int]) -> None:
    assert increments(count, base, increment) == sizes


def test_too_few_classes_for_two_experiences_is_one_sentence() -> None:
    with pytest.raises(IncompatibleError, match="50 classes cannot be cut into two or more experiences with base=60"):
        Cifar100(Config(base=60)).check(Part.TUNING_HALF)


def test_a_base_of_all_classes_is_one_experience() -> None:
    assert increments(100, 100, 10) == [100]
    assert Config(base=100).sizes(100) == [100]
    assert Config(base=100, tasks=3).sizes(100) == [100]
    with pytest.raises(IncompatibleError, match="10 classes cannot be cut"):
        increments(10, 0, 10)


@pytest.mark.parametrize("tasks", [5, 6])
def test_tasks_count_what_follows_the_base(tasks: int) -> None:
    sizes = Config(base=50, tasks=tasks).sizes(100)
    assert sizes == {5: [50] + [10] * 5, 6: [50, 9, 9, 8, 8, 8, 8]}[tasks]


def test_the_halves_are_those_of_the_protocol() -> None:
    assert half_of_classes(100, Part.TUNING_HALF) == list(range(50))
    assert half_of_classes(100, Part.EVALUATION_HALF) == list(range(50, 100))
    drawn = half_of_classes(100, Part.TUNING_HALF, split_seed=3)
    assert sorted(drawn + half_of_classes(100, Part.EVALUATION_HALF, split_seed=3)) == list(range(100))


@pytest.mark.parametrize("field", ["base", "increment", "train_per_class"])
def test_values_out_of_range_are_one_sentence(field: str) -> None:
    with pytest.raises(ConfigError, match=f"scenario.{field} must be in"):
        Config(**{field: 501})


def test_missing_data_that_cannot_be_downloaded_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CLBENCH_DATA", raising=False)
    monkeypatch.setattr("torchvision.datasets.CIFAR100.url", "http://localhost:1/nothing.tar.gz")
    with pytest.raises(DataError, match=r"cannot be downloaded .*data\.root=FOLDER") as caught:
        Cifar100(Config(), tmp_path).check(Part.WHOLE)
    assert "\n" not in str(caught.value)


def test_a_missing_or_truncated_file_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    with pytest.raises(DataError, match="train is missing"):
        Cifar100(Config(), tmp_path).check(Part.WHOLE)
    (folder / "train").write_bytes(b"half a file")
    with pytest.raises(DataError, match=r"train is damaged \(its md5 differs\)"):
        Cifar100(Config(), tmp_path).check(Part.WHOLE)


@real
def test_a_truncated_real_file_is_named(tmp_path: Path) -> None:
    source = Path(os.environ["CLBENCH_DATA"]) / "cifar-100-python"
    shutil.copytree(source, tmp_path / "cifar-100-python")
    target = tmp_path / "cifar-100-python" / "test"
    target.write_bytes(target.read_bytes()[:-1])
    with pytest.raises(DataError, match="test is damaged"):
        Cifar100(Config(), tmp_path).check(Part.WHOLE)


@real
def test_the_pixels_and_labels_are_the_files_own() -> None:
    root = Path(os.environ["CLBENCH_DATA"])
    with (root / "cifar-100-python" / "test").open("rb") as file:
        raw = pickle.load(file, encoding="latin1")
    stream = Cifar100(Config(), root).stream(1993)
    first = stream.experiences[0]
    assert (len(first.train), len(first.test)) == (5000, 1000)
    order = class_order(100, 1993)
    row = int(first.test.rows[17])
    assert order[int(first.test.column("label")[17])] == raw["fine_labels"][row]
    assert first.test.column("image")[17].flatten().tolist() == raw["data"][row].tolist()


@real
def test_fewer_images_per_class() -> None:
    stream = Cifar100(Config(train_per_class=7)).stream(0)
    assert {len(e.train) for e in stream.experiences} == {70}
    assert {len(e.test) for e in stream.experiences} == {1000}
