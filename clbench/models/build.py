"""Backbones by name: our own, and every timm model."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import TypeAlias

from torch import nn

from clbench.errors import ConfigError, UnknownNameError
from clbench.models.checkpoint import load_weights
from clbench.models.config import EMBEDDED, ModelConfig
from clbench.models.pretrained_vit import PretrainedViT
from clbench.models.resnet import ResNet18, ResNet32
from clbench.models.small_cnn import SmallCNN
from clbench.models.small_vit import SmallViT
from clbench.models.timm_backbone import build_timm, is_timm_name, timm_names
from clbench.registry import unknown

Shape: TypeAlias = tuple[int, int, int]
"""Of one image, (C, H, W)."""

NAMES: dict[str, Callable[[Shape, int | None], nn.Module]] = {
    EMBEDDED: lambda shape, _: PretrainedViT(shape, weights=False),
    "resnet18": lambda shape, width: ResNet18(shape[0], width or 64),
    "resnet32": lambda shape, width: ResNet32(shape[0], width or 16),
    "small_cnn": lambda shape, width: SmallCNN(shape[0], width or 16),
    "small_vit": lambda shape, width: SmallViT(shape, width or 64),
}
"""Our own backbones: from the images' shape and ``model.width`` to the network."""

TIMM = "timm/"


def names() -> list[str]:
    """Our own backbones, sorted; every timm model comes on top, as ``timm/NAME``."""
    return sorted(NAMES)


def build_backbone(config: ModelConfig, shape: Shape, default: str) -> nn.Module:
    """The backbone that ``config`` asks for, with its weights.

    Args:
        config: a name without ``timm/`` means our own backbone where there is one, else timm's.
        shape: of one image, (C, H, W).
        default: the name where the config has none.

    Returns:
        A module from images (N, C, H, W), floating point, to features (N, features_out), with the attribute
        ``features_out``.

    Raises:
        UnknownNameError: neither we nor timm have the name.
        ConfigError: a field that this backbone has no use for.
        CheckpointError: the weights cannot be had, or belong to another architecture.
        IncompatibleError: the backbone does not take images of this shape.
    """
    name = default if config.name is None else config.name
    _refuse_language_fields(config)
    if name in NAMES:
        return _own(name, config, shape)
    bare = name.removeprefix(TIMM)
    if not is_timm_name(bare):
        raise _unknown(name)
    if config.width is not None:
        free = [own for own in names() if own != EMBEDDED]
        raise ConfigError(f"model.width goes with {', '.join(free)} only, got {config.width} with {name}")
    return build_timm(bare, shape, config.checkpoint, config.pretrained)


def _refuse_language_fields(config: ModelConfig) -> None:
    plain = ModelConfig()
    for field in ("adapter", "dtype", "gradient_checkpointing"):
        if getattr(config, field) != getattr(plain, field):
            raise ConfigError(f"model.{field} goes with language models only, on streams of texts; leave it out")


def _own(name: str, config: ModelConfig, shape: Shape) -> nn.Module:
    if name == EMBEDDED and config.width is not None:
        raise ConfigError(f"model.width is part of {EMBEDDED}'s weights, got {config.width}; leave it out")
    if name == EMBEDDED and config.checkpoint is None:
        return PretrainedViT(shape)
    if config.pretrained:
        raise ConfigError(
            f"model.pretrained goes with timm models only, got {name}; use model.name=timm/NAME or model.checkpoint"
        )
    backbone = NAMES[name](shape, config.width)
    if config.checkpoint is not None:
        load_weights(backbone, config.checkpoint, name)
    return backbone


def _unknown(name: str) -> UnknownNameError:
    close = difflib.get_close_matches(name.removeprefix(TIMM), timm_names(), n=3)
    return unknown("model", name, [*names(), *(TIMM + other for other in close), "and every timm model as timm/NAME"])
