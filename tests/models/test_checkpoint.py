import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from clbench.errors import CheckpointError
from clbench.models.build import build_backbone
from clbench.models.checkpoint import read_weights
from clbench.models.classifier import build_classifier
from clbench.models.config import ModelConfig
from clbench.models.small_cnn import SmallCNN

SHAPE = (3, 8, 8)


def load(path: Path, name: str = "small_cnn") -> nn.Module:
    return build_backbone(ModelConfig(name, checkpoint=path), SHAPE, "small_cnn")


def saved(content: Any, folder: Path, name: str = "weights.pth") -> Path:
    torch.save(content, folder / name)
    return folder / name


def assert_same(network: nn.Module, other: nn.Module) -> None:
    expected = other.state_dict()
    assert network.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in network.state_dict().items())


def refusal(path: Path, name: str = "small_cnn") -> str:
    """The error's message, which must be one line that names the file."""
    with pytest.raises(CheckpointError) as caught:
        load(path, name)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


@pytest.mark.parametrize("name", ["resnet18", "resnet32", "small_cnn", "small_vit"])
def test_round_trip(name: str, tmp_path: Path) -> None:
    source = build_backbone(ModelConfig(width=8), SHAPE, name)
    save_file(source.state_dict(), tmp_path / "weights.safetensors")
    for path in (saved(source.state_dict(), tmp_path), tmp_path / "weights.safetensors"):
        assert_same(build_backbone(ModelConfig(width=8, checkpoint=path), SHAPE, name), source)


def test_wrappers_prefixes_and_the_checkpoints_own_head_are_taken_off(tmp_path: Path) -> None:
    source = SmallCNN(3)
    weights = {f"module.{key}": value for key, value in source.state_dict().items()}
    weights |= {"module.fc.weight": torch.zeros(10, 64), "module.fc.bias": torch.zeros(10)}
    assert_same(load(saved({"epoch": 3, "state_dict": weights}, tmp_path)), source)
    assert_same(load(saved({"model": weights}, tmp_path)), source)
    compiled = {f"module._orig_mod.{key}": value for key, value in source.state_dict().items()}
    assert_same(load(saved(compiled, tmp_path)), source)


def test_a_whole_classifier_serves_as_a_checkpoint(tmp_path: Path) -> None:
    source = build_classifier(ModelConfig(), SHAPE, "small_cnn", (0, 0, 1))
    source.grow(3)
    assert_same(load(saved(source.state_dict(), tmp_path)), source.backbone)


def test_weights_from_before_batches_were_counted_load(tmp_path: Path) -> None:
    source = SmallCNN(3)
    weights = {k: v for k, v in source.state_dict().items() if not k.endswith("num_batches_tracked")}
    assert_same(load(saved(weights, tmp_path)), source)


def test_a_missing_file(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.pth").startswith("no weights file")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_truncated_files(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(SmallCNN(3).state_dict(), path)
    else:
        save_file(SmallCNN(3).state_dict(), path)
    whole = path.read_bytes()
    for length in (0, 1, 7, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert "cannot be read as weights" in refusal(path)


def test_a_truncated_file_of_the_older_format(tmp_path: Path) -> None:
    path = tmp_path / "weights.th"
    torch.save(SmallCNN(3).state_dict(), path, _use_new_zipfile_serialization=False)
    assert_same(load(path), load(path))
    whole = path.read_bytes()
    for length in (0, 1, 7, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert "cannot be read as weights" in refusal(path)


@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html>", b"\x00" * 4096, b"version https://git-lfs\n"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_files_of_another_kind(content: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    assert "cannot be read as weights" in refusal(path)


def test_a_pickle_that_would_run_code_is_not_run(tmp_path: Path) -> None:
    assert "cannot be read as weights" in refusal(saved(SmallCNN(3), tmp_path))


@pytest.mark.parametrize("content", [[1, 2], {}, {"epoch": 3}, torch.zeros(2), {"state_dict": {"a": 1}}])
def test_files_without_weights(content: Any, tmp_path: Path) -> None:
    assert "holds no weights" in refusal(saved(content, tmp_path))


def test_an_unknown_ending(tmp_path: Path) -> None:
    (tmp_path / "weights.npz").write_bytes(b"")
    assert "got '.npz'" in refusal(tmp_path / "weights.npz")


def test_weights_of_another_architecture(tmp_path: Path) -> None:
    message = refusal(saved(SmallCNN(3).state_dict(), tmp_path), "resnet32")
    assert "holds weights of another architecture than resnet32: 0 of 155 keys fit; 'conv.weight' is missing" in message


def test_weights_of_another_width(tmp_path: Path) -> None:
    message = refusal(saved(SmallCNN(3, 8).state_dict(), tmp_path))
    assert "'stages.0.conv.weight' is (8, 3, 3, 3) where (16, 3, 3, 3) is expected" in message


def test_weights_with_a_key_too_many(tmp_path: Path) -> None:
    weights = SmallCNN(3).state_dict() | {"extra.weight": torch.zeros(2)}
    message = refusal(saved(weights, tmp_path))
    assert "18 of 18 keys fit; 'extra.weight' is not in the network" in message


def test_nothing_is_loaded_where_not_all_fits(tmp_path: Path) -> None:
    weights = SmallCNN(3).state_dict()
    del weights["stages.2.conv.weight"]
    assert "17 of 18 keys fit; 'stages.2.conv.weight' is missing" in refusal(saved(weights, tmp_path))


def test_published_resnet20_weights_are_read_and_do_not_fit_resnet32() -> None:
    path = Path(os.environ.get("CLBENCH_DATA", "/nonexistent")) / "weights" / "resnet20-12fca82f.th"
    if not path.is_file():
        pytest.skip("CLBENCH_DATA names no folder with weights/resnet20-12fca82f.th")
    assert read_weights(path)["conv1.weight"].shape == (16, 3, 3, 3)
    message = refusal(path, "resnet32")
    assert "holds weights of another architecture than resnet32: 0 of 155 keys fit; 'conv.weight' is missing" in message
