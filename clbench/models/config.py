"""Which network a run trains, as the command line gives it. Imports no torch, so that help is quick."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from clbench.errors import ConfigError

EMBEDDED = "pretrained_vit"
"""The backbone that comes with its weights inside this package."""


class HeadKind(Enum):
    """How features become logits."""

    LINEAR = "linear"
    COSINE = "cosine"


@dataclass
class ModelConfig:
    """A backbone, where its weights come from, and its head."""

    name: str | None = None  # resnet32, resnet18, small_cnn, small_vit, pretrained_vit, or timm/NAME; null: default
    checkpoint: Path | None = None  # weights file to start from: .pth, .pt, .th, .bin or .safetensors
    pretrained: bool = False  # start from the published weights; timm models only
    head: HeadKind = HeadKind.LINEAR  # how features become logits
    width: int | None = None  # channels of the first stage, or of a ViT's embedding; null: the network's own

    def __post_init__(self) -> None:
        """Check each field, and which go together.

        Raises:
            ConfigError: width is below 1, or pretrained and checkpoint are both given.
        """
        if self.width is not None and self.width < 1:
            raise ConfigError(f"model.width must be >= 1, got {self.width}")
        if self.pretrained and self.checkpoint is not None:
            raise ConfigError(
                f"model.pretrained and model.checkpoint exclude each other, got pretrained=true and "
                f"checkpoint={self.checkpoint}; leave one out"
            )
