"""Any timm model as a backbone. timm is imported where it is used, since that takes seconds."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from clbench.errors import CheckpointError, IncompatibleError
from clbench.models.checkpoint import Weights, load_weights, one_line
from clbench.models.hub import reach_hub

WEIGHTS_FILE = "model.safetensors"


def timm_names() -> list[str]:
    """Every model that timm can build, without the names of its weights."""
    import timm

    return list(timm.list_models())


def is_timm_name(name: str) -> bool:
    """Whether timm knows the model and, where one follows a dot, the name of its weights."""
    import timm

    architecture, _, weights = name.partition(".")
    return timm.is_model(architecture) and (not weights or name in timm.list_pretrained(f"{architecture}.*"))


def build_timm(name: str, shape: tuple[int, int, int], checkpoint: Path | None, pretrained: bool) -> nn.Module:
    """A timm model without its classifier, for images of the given shape.

    Where the model can be told the size of its images, it is, and position embeddings of other sizes are resampled.

    Args:
        name: as timm has it, without ``timm/``.
        shape: of one image, (C, H, W).
        checkpoint: local weights file.
        pretrained: fetch the published weights, or take them from the cache of the Hugging Face hub.

    Returns:
        A module from images (N, C, H, W) to features (N, features_out), with the attribute ``features_out``.

    Raises:
        CheckpointError: the weights cannot be had, or belong to another architecture.
        IncompatibleError: the model does not take images of this shape.
    """
    try:
        network = _created(name, shape)
        network.features_out = _features_out(network, shape)
    except Exception as error:  # models refuse shapes by assertions, shape errors, divisions by zero and more
        raise IncompatibleError(
            f"timm/{name} cannot take images of shape {shape}: {one_line(error)}; choose another model"
        ) from error
    path = published_weights(name) if pretrained else checkpoint
    if path is not None:
        load_weights(network, path, f"timm/{name}", lambda weights: _converted(weights, network))
    backbone: nn.Module = network
    return backbone


def published_weights(name: str) -> Path:
    """The file of a timm model's published weights, from the local cache or fetched.

    Raises:
        CheckpointError: there are none, or they are not cached and cannot be fetched.
    """
    import timm
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    entry = timm.get_pretrained_cfg(name)
    repository = None if entry is None else entry.hf_hub_id
    way_out = "hand over a local file with model.checkpoint=/path/to/weights.safetensors or .pth"
    if repository is None:
        raise CheckpointError(f"timm/{name} has no published weights on the Hugging Face hub; {way_out}")
    cached = try_to_load_from_cache(repository, WEIGHTS_FILE)
    if isinstance(cached, str):
        return Path(cached)
    try:
        reach_hub()
        return Path(hf_hub_download(repository, WEIGHTS_FILE))
    except Exception as error:  # the hub, the network and the disk each have exceptions of their own
        raise CheckpointError(f"weights of timm/{name} cannot be fetched ({one_line(error)}); {way_out}") from error


def _created(name: str, shape: tuple[int, int, int]) -> Any:
    import timm

    channels, height, width = shape
    try:
        return timm.create_model(name, num_classes=0, in_chans=channels, img_size=(height, width))
    except TypeError as error:
        if "img_size" not in str(error):
            raise
    return timm.create_model(name, num_classes=0, in_chans=channels)


def _features_out(network: nn.Module, shape: tuple[int, int, int]) -> int:
    """Length of a feature vector, by trying: timm's `num_features` is another number for some models."""
    network.eval()
    with torch.no_grad():
        features = network(torch.zeros(1, *shape))
    network.train()
    if features.ndim != 2:
        raise ValueError(f"its features have shape {tuple(features.shape)} where (N, F) is expected")
    return int(features.shape[1])


def _converted(weights: Weights, network: nn.Module) -> Weights:
    """Apply timm's own conversion for this family of models: older names, other sizes of images."""
    convert = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    return weights if convert is None else dict(convert(weights, network))
