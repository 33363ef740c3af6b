from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from clbench import engine
from clbench.errors import ClbenchError, ConfigError, DataError, IncompatibleError
from clbench.images import folders
from clbench.models.config import ModelConfig
from clbench.record import Part, Phase, Selection, Status
from clbench.run import Run
from clbench.scenario import class_order, scenarios
from clbench.strategy import strategies
from tests.pictures import make_folder

Folder, Config = scenarios.load("folder")
NAMES = ["10", "4", "B", "a"]  # sorted as strings


def folder(path: Path, **values: Any) -> Any:
    return Folder(Config(path=path, **{"increment": 2, "size": 16, "store": 24} | values))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "set", NAMES)


def refusal(path: Path, **values: Any) -> str:
    with pytest.raises(ClbenchError) as caught:
        folder(path, **values).check(Part.WHOLE)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("count", "digest"), [(200, "1d364b99a5915405"), (300, "18613efa7667417c")])
def test_orders_of_seed_1993_are_the_published_ones(count: int, digest: str) -> None:
    order = class_order(count, 1993)
    assert hashlib.sha256(",".join(map(str, order)).encode()).hexdigest()[:16] == digest


def test_classes_are_numbered_by_their_names_as_strings(root: Path) -> None:
    natural = folder(root, shuffle=False).stream(1)
    assert [e.name for e in natural.experiences] == ["10, 4", "B, a"]
    order = class_order(4, 1)
    assert order != sorted(order)
    drawn = folder(root).stream(1)
    assert [name for e in drawn.experiences for name in e.name.split(", ")] == [NAMES[i] for i in order]


def test_images_stand_under_their_labels(root: Path) -> None:
    stream = folder(root, shuffle=False).stream(0)
    for experience in stream.experiences:
        batch = next(experience.train.batches(8))
        for image, label in zip(batch["image"], batch["label"].tolist(), strict=True):
            assert image.shape == (3, 24, 24)
            assert abs(float(image.float().mean()) - (label * 37 % 150 + 49.5)) < 10


@pytest.mark.parametrize("test", ["test", "val", "validation"])
def test_the_test_folder_has_several_names_and_images_lie_at_any_depth(root: Path, test: str) -> None:
    (root / "val").rename(root / test)
    (root / "train" / "B" / "images").mkdir()
    (root / "train" / "B" / "0.jpg").rename(root / "train" / "B" / "images" / "0.JPEG")
    (root / "train" / "B" / "._1.jpg").write_bytes(b"what macOS leaves behind")
    (root / "train" / "B" / "notes.txt").touch()
    stream = folder(root).stream(0)
    assert sum(len(e.train) for e in stream.experiences) == 8
    assert sum(len(e.test) for e in stream.experiences) == 4


def test_the_path_is_looked_for_under_the_data_root_too(
    root: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    Folder(Config(path=Path("set"), increment=1), root.parent).check(Part.WHOLE)
    monkeypatch.setenv("CLBENCH_DATA", str(root.parent))
    folder(Path("set")).check(Part.WHOLE)
    assert "no folder 'sets'" in refusal(Path("sets"))


def test_what_is_missing_is_named(root: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "empty holds no folder train with a folder per class" in refusal(tmp_path / "empty")
    (root / "val" / "4").rename(root / "val" / "5")
    assert "val has classes that" in refusal(root)
    assert refusal(root).endswith("lacks: 5")
    (root / "val" / "5").rename(tmp_path / "5")
    assert "val has no image of 1 of 4 classes: 4" in refusal(root)
    (root / "val" / "4").mkdir()
    assert "val has no image of 1 of 4 classes: 4" in refusal(root)
    (root / "val" / "4").rmdir()
    (tmp_path / "5").rename(root / "val" / "4")
    for path in (root / "train" / "a").iterdir():
        path.unlink()
    assert "train has no image of 1 of 4 classes: a" in refusal(root)
    (root / "val").rename(root / "held out")
    assert "holds no folder test with a folder per class (tried: test, val" in refusal(root)


def test_impossible_cuts_are_one_sentence(root: Path) -> None:
    assert "4 classes cannot be cut" in refusal(root, base=5)
    assert "4 classes cannot be cut" in refusal(root, increment=4)
    with pytest.raises(IncompatibleError, match="2 classes cannot be cut"):
        folder(root).check(Part.TUNING_HALF)
    for field in ("increment", "size", "store"):
        with pytest.raises(ConfigError, match=f"scenario.{field} must be"):
            Config(**{field: 0})


def test_the_digest_sees_pixels_size_and_classes_but_no_file_name(root: Path) -> None:
    before = folder(root).stream(0).digest
    (root / "train" / "a" / "0.jpg").rename(root / "train" / "a" / "00.jpg")
    assert folder(root).stream(0).digest == before
    assert folder(root, store=16).stream(0).digest != before
    Image.new("RGB", (20, 20)).save(root / "train" / "a" / "00.jpg")
    changed = folder(root).stream(0).digest
    assert changed != before
    (root / "train" / "a" / "00.jpg").rename(root / "train" / "B" / "9.jpg")
    assert folder(root).stream(0).digest not in (before, changed)


def test_the_cache_lies_beside_the_data_or_in_the_users_own(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder(root).stream(0)
    assert (root / "clbench-cache" / "squares-24" / "images.bin").exists()
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.delenv("CLBENCH_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    folder(root, store=16).stream(0)
    assert len(list((tmp_path / "home" / ".cache" / "clbench").glob("set-*/squares-16/images.bin"))) == 1


def test_resident_and_mapped_tables_hold_the_same(root: Path) -> None:
    train, _, _ = folders.load(folders.listed(root), 24, "cpu")
    assert train.source.mapped
    copied = folders.resident(train.source.columns["image"], train.rows, train.column("label"), "cpu")
    assert not copied.source.mapped
    assert train.source.layout == copied.source.layout == ""
    assert train.source.length == copied.source.length == 8
    for name in ("image", "label"):
        assert torch.equal(copied.column(name), train.column(name))


def test_a_layout_that_depends_on_the_past_of_the_cache_has_a_name_of_its_own(root: Path) -> None:
    before = folder(root).stream(0)
    path = root / "train" / "B" / "0.jpg"
    content = path.read_bytes()
    path.write_bytes(content + b"one byte more, the same picture")
    after = folder(root).stream(0)
    assert after.digest == before.digest
    layouts = {stream.experiences[0].train.source.layout for stream in (before, after)}
    assert "" in layouts
    assert len(layouts) == 2
    for old, new in zip(before.experiences, after.experiences, strict=True):
        for name in ("image", "label", "task"):
            assert torch.equal(old.train.column(name), new.train.column(name))


@pytest.mark.parametrize("values", [{"increment": 1}, {"base": 4}])
def test_one_image_in_a_class_one_class_in_an_experience_and_all_in_one(
    root: Path, tmp_path: Path, values: dict[str, int]
) -> None:
    (root / "train" / "a" / "1.jpg").unlink()
    config = Config(path=root, **{"size": 16, "store": 24} | values)
    _, naive = strategies.load("naive")
    run = Run(
        scenario=config,
        strategy=naive(epochs=1),
        model=ModelConfig("resnet32", width=4),
        seed=0,
        phase=Phase.EVALUATION,
        part=Part.WHOLE,
        selection=Selection("given"),
        protocol="single",
        device="cpu",
        output=tmp_path / "runs",
    )
    done = engine.execute(run)
    assert done.status is Status.FINISHED
    assert len(done.experiences) == (1 if "base" in values else 4)
    assert sorted(e.train for e in done.experiences) == ([7] if "base" in values else [1, 2, 2, 2])
    assert "size=16" in done.transform
    assert "mean=(0.0, 0.0, 0.0)" in done.transform


def test_no_path_is_one_sentence() -> None:
    with pytest.raises(DataError, match=r"scenario\.path=FOLDER is missing"):
        Folder(Config()).check(Part.WHOLE)
