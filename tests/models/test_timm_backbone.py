import time
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from clbench.errors import CheckpointError, ConfigError, IncompatibleError, UnknownNameError
from clbench.models.build import build_backbone, names
from clbench.models.config import ModelConfig

TINY = "timm/test_vit"


def refusal(error: type[Exception], config: ModelConfig, shape: tuple[int, int, int] = (3, 32, 32)) -> str:
    with pytest.raises(error) as caught:
        build_backbone(config, shape, "small_cnn")
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", [TINY, "test_vit", "timm/test_resnet", "timm/test_efficientnet"])
@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 64, 64)])
def test_features_of_other_sizes_and_channels(name: str, shape: tuple[int, int, int]) -> None:
    backbone = build_backbone(ModelConfig(name), shape, "small_cnn")
    assert backbone.training
    assert backbone(torch.randn(2, *shape)).shape == (2, backbone.features_out)


@pytest.mark.parametrize("name", ["test_vit", "test_resnet"])
def test_a_local_checkpoint_with_its_classifier_round_trips(name: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"img_size": 32} if name == "test_vit" else {}
    source = timm.create_model(name, num_classes=5, **options)
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    config = ModelConfig(f"timm/{name}", checkpoint=tmp_path / "weights.pth")
    state = build_backbone(config, (3, 32, 32), "small_cnn").state_dict()
    expected = source.state_dict()
    assert expected.keys() - state.keys() == {
        f"{'head' if name == 'test_vit' else 'fc'}.{x}" for x in ("weight", "bias")
    }
    assert all(torch.equal(value, expected[key]) for key, value in state.items())


def test_position_embeddings_of_another_size_are_resampled(tmp_path: Path) -> None:
    source = timm.create_model("test_vit", num_classes=0, img_size=160)
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    config = ModelConfig(TINY, checkpoint=tmp_path / "weights.pth")
    state = build_backbone(config, (3, 32, 32), "small_cnn").state_dict()
    assert state["pos_embed"].shape != source.state_dict()["pos_embed"].shape
    assert all(torch.equal(value, source.state_dict()[key]) for key, value in state.items() if key != "pos_embed")


def test_a_checkpoint_of_another_architecture(tmp_path: Path) -> None:
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "weights.pth")
    message = refusal(CheckpointError, ModelConfig(TINY, checkpoint=tmp_path / "weights.pth"))
    assert "holds weights of another architecture than timm/test_vit" in message


def test_images_that_the_model_cannot_take() -> None:
    message = refusal(IncompatibleError, ModelConfig(TINY), (3, 8, 8))
    assert message.startswith("timm/test_vit cannot take images of shape (3, 8, 8)")


def test_pretrained_without_a_network_fails_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    start = time.monotonic()
    message = refusal(CheckpointError, ModelConfig(TINY, pretrained=True))
    assert time.monotonic() - start < 10
    assert message.startswith("weights of timm/test_vit cannot be fetched (")
    assert message.endswith("hand over a local file with model.checkpoint=/path/to/weights.safetensors or .pth")


def test_weights_that_were_never_published() -> None:
    message = refusal(CheckpointError, ModelConfig("timm/vit_base_patch16_18x2_224", pretrained=True))
    assert "timm/vit_base_patch16_18x2_224 has no published weights" in message


def test_pretrained_loads_what_the_cache_holds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source = timm.create_model("test_vit", num_classes=1000)
    cache = tmp_path / "models--timm--test_vit.r160_in1k"
    (cache / "snapshots" / "abc").mkdir(parents=True)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("abc")
    save_file(source.state_dict(), cache / "snapshots" / "abc" / "model.safetensors")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    backbone = build_backbone(ModelConfig(TINY, pretrained=True), (3, 160, 160), "small_cnn")
    assert torch.equal(backbone.state_dict()["cls_token"], source.state_dict()["cls_token"])


def test_pretrained_is_refused_for_own_backbones() -> None:
    message = refusal(ConfigError, ModelConfig("resnet32", pretrained=True))
    assert message.startswith("model.pretrained goes with timm models only, got resnet32")


def test_width_is_refused_for_timm_models() -> None:
    message = refusal(ConfigError, ModelConfig(TINY, width=32))
    assert message.startswith("model.width goes with resnet18, resnet32, small_cnn, small_vit only, got 32")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("resnet23", "resnet32"),
        ("smal_cnn", "small_cnn"),
        ("timm/vit_tiny_patch16_225", "timm/vit_tiny_patch16_224"),
        ("timm/test_vit.nonsuch", "timm/test_vit"),
        ("qqqqqq", None),
    ],
)
def test_unknown_names(name: str, meant: str | None) -> None:
    message = refusal(UnknownNameError, ModelConfig(name))
    assert message.startswith(f"unknown model {name!r}.")
    assert (f"Did you mean {meant}" in message or f" or {meant}?" in message) if meant else "mean" not in message
    assert ", ".join(names()) in message
    assert len(message) < 400
