from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import CenterCrop, InterpolationMode, Resize

from clbench.errors import ConfigError
from clbench.scenario import scenarios

Cifar224, Config = scenarios.load("cifar224")
real = pytest.mark.skipif("CLBENCH_DATA" not in os.environ, reason="CLBENCH_DATA is not set")


@pytest.mark.parametrize("field", ["base", "increment", "tasks", "size", "train_per_class"])
def test_values_out_of_range_are_one_sentence(field: str) -> None:
    with pytest.raises(ConfigError, match=f"scenario.{field} must be"):
        Config(**{field: 501 if field not in ("size",) else 7})


def test_the_network_is_the_fields() -> None:
    assert Cifar224.default_model == "timm/vit_base_patch16_224.augreg_in21k"


@real
def test_images_stay_small_and_are_shown_as_the_field_shows_them() -> None:
    stream = Cifar224(Config(train_per_class=2)).stream(1993)
    assert stream.shape == (3, 224, 224)
    assert [len(e.classes) for e in stream.experiences] == [10] * 10
    for part in (
        "size=224",
        "resize=256",
        "scale=(0.05, 1.0)",
        "bicubic",
        "mean=(0.0, 0.0, 0.0)",
        "std=(1.0, 1.0, 1.0)",
    ):
        assert part in repr(stream.transform)
    batch = next(stream.experiences[0].test.batches(2))
    assert batch["image"].shape == (2, 3, 32, 32)
    shown = stream.transform.evaluate(batch)["image"]
    for stored, image in zip(batch["image"], shown, strict=True):
        original = Image.fromarray(stored.permute(1, 2, 0).numpy())
        wanted = np.array(CenterCrop(224)(Resize(256, InterpolationMode.BICUBIC)(original)))
        assert (image.permute(1, 2, 0) * 255 - torch.from_numpy(wanted)).abs().max() <= 1.001


@real
def test_it_is_cifar100_in_the_same_order() -> None:
    root = Path(os.environ["CLBENCH_DATA"])
    cifar100, config = scenarios.load("cifar100")
    small, large = cifar100(config(), root).stream(1993), Cifar224(Config(size=32), root).stream(1993)
    assert small.digest == large.digest
    assert small.shape == large.shape == (3, 32, 32)
