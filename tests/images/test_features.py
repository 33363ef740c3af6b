from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from clbench.errors import ClbenchError
from clbench.images import features
from clbench.models.classifier import Classifier
from clbench.scenario import Stream
from tests.learning import digits, problem

CPU = torch.device("cpu")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLBENCH_CACHE", str(tmp_path))
    return tmp_path / "features"


def model(stream: Stream, seed: int = 0) -> Classifier:
    made = problem(stream, seed, "small_vit", 8).model()
    assert isinstance(made, Classifier)
    return made


@pytest.mark.usefixtures("cache")
def test_the_column_holds_the_features_of_the_unaugmented_images() -> None:
    stream = digits()
    network = model(stream)
    made = features.with_features(stream, network, CPU, images=False)
    assert set(made.experiences[2].train.source.columns) == {"feature", "label", "task"}
    with torch.no_grad():
        for before, after in zip(stream.experiences, made.experiences, strict=True):
            batch = {"image": before.test.column("image")}
            expected = network.features(stream.transform.evaluate(batch))
            assert torch.allclose(after.test.column("feature"), expected, atol=1e-5)
            assert torch.equal(after.test.column("label"), before.test.column("label"))


@pytest.mark.usefixtures("cache")
def test_images_stay_where_they_are_asked_for() -> None:
    made = features.with_features(digits(), model(digits()), CPU, images=True)
    assert {"image", "feature"} <= set(made.experiences[0].train.source.columns)
    assert made.transform == digits().transform


def test_class_orders_and_strategies_share_one_cache_and_other_weights_have_another(cache: Path) -> None:
    features.with_features(digits(seed=0), model(digits()), CPU, images=False)
    kept = {path: path.stat().st_mtime_ns for path in cache.rglob("feature.npy")}
    assert len(kept) == 2  # training and test images
    features.with_features(digits(seed=1), model(digits()), CPU, images=True)
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("feature.npy")} == kept
    features.with_features(digits(), model(digits(), seed=1), CPU, images=False)
    assert len(list(cache.rglob("feature.npy"))) == 4


def test_what_was_interrupted_goes_on_with_the_same_bits(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = features.with_features(digits(), model(digits()), CPU, images=False)
    expected = whole.experiences[0].train.source.columns["feature"].clone()
    for path in cache.rglob("*.*"):
        path.unlink()
    monkeypatch.setattr(features, "PATIENCE", 1)  # note what is done after each block
    calls: list[int] = []
    compute = Classifier.features

    def interrupted(self: Classifier, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        calls.append(len(batch["image"]))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return compute(self, batch)

    def counted(self: Classifier, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        calls.append(-1)
        return compute(self, batch)

    monkeypatch.setattr(Classifier, "features", interrupted)
    with pytest.raises(KeyboardInterrupt):
        features.with_features(digits(), model(digits()), CPU, images=False)
    monkeypatch.setattr(Classifier, "features", counted)
    again = features.with_features(digits(), model(digits()), CPU, images=False)
    assert torch.equal(again.experiences[0].train.source.columns["feature"], expected)
    rows = -(-1437 // 256) + -(-360 // 256)
    assert calls.count(-1) == rows - 2  # two blocks were there already


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CLBENCH_CACHE", str(tmp_path / "file"))
    with pytest.raises(ClbenchError, match="set CLBENCH_CACHE to another folder"):
        features.with_features(digits(), model(digits()), CPU, images=False)


@pytest.mark.usefixtures("cache")
def test_stored_features_are_float32() -> None:
    made = features.with_features(digits(), model(digits()), CPU, images=False)
    assert np.asarray(made.experiences[0].train.source.columns["feature"]).dtype == np.float32


@pytest.mark.parametrize("damage", ["missing", "truncated", "unreadable"])
def test_a_damaged_cache_is_computed_anew(cache: Path, damage: str) -> None:
    first = features.with_features(digits(), model(digits()), CPU, images=False)
    expected = first.experiences[0].train.source.columns["feature"].clone()
    for path in list(cache.rglob("feature.npy")):
        if damage == "missing":
            path.unlink()
        elif damage == "truncated":
            path.write_bytes(path.read_bytes()[:1000])
        else:
            (path.parent / "done.json").write_text("{")
    again = features.with_features(digits(), model(digits()), CPU, images=False)
    assert torch.equal(again.experiences[0].train.source.columns["feature"], expected)


@pytest.mark.usefixtures("cache")
def test_the_record_still_says_how_images_were_shown() -> None:
    made = features.with_features(digits(), model(digits()), CPU, images=False)
    assert "mean=(0.286,)" in repr(made.transform)
