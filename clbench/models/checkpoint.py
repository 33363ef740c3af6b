"""Weights from a local file: all that the backbone needs, or an error that says what does not fit."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clbench.errors import CheckpointError

Weights = dict[str, Tensor]
WRAPPERS = ("state_dict", "model")  # keys under which training scripts keep the weights
PREFIXES = ("module.", "_orig_mod.", "backbone.")
"""Of DataParallel, of torch.compile, and of a whole `clbench.models.classifier.Classifier`."""
CLASSIFIERS = ("head.", "head_dist.", "fc.", "classifier.", "linear.")  # a checkpoint's own head, in its usual names
CERTIFICATE = "clbench.json"  # in a language model's folder
SUFFIXES = (".pth", ".pt", ".th", ".bin", ".safetensors")


def read_weights(path: Path) -> Weights:
    """The tensors of a weights file by name, on the CPU; nothing in the file is executed.

    Args:
        path: a .pth, .pt, .th or .bin file of `torch.save`, or a .safetensors file.

    Raises:
        CheckpointError: the file is missing, truncated, or holds no weights.
    """
    return unwrapped(read_content(path), path)


def read_content(path: Path) -> Any:
    """All that a weights file holds, whatever it is, on the CPU; nothing in the file is executed.

    Args:
        path: as for `read_weights`.

    Raises:
        CheckpointError: the file is missing, truncated, or of another kind.
    """
    path = path.expanduser()
    if not path.is_file():
        raise CheckpointError(f"no weights file {str(path)!r}; give the path of an existing file")
    if path.suffix not in SUFFIXES:
        raise CheckpointError(f"{path}: weights files end in {', '.join(SUFFIXES)}, got {path.suffix!r}")
    try:
        return _read(path)
    except Exception as error:  # the readers raise whatever the broken bytes lead them to
        raise CheckpointError(
            f"{path} cannot be read as weights, it is truncated or of another kind ({one_line(error)})"
        ) from error


def unwrapped(content: Any, path: Path) -> Weights:
    """The tensors by name within what training scripts wrap around them.

    Args:
        content: of the file, see `read_content`.
        path: of the file, for messages.

    Raises:
        CheckpointError: these are no weights.
    """
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise CheckpointError(f"{path} holds no weights: expected a mapping from names to tensors")
    return {_bare(str(key)): value for key, value in content.items()}


def read_certificate(path: Path) -> dict[str, Any] | None:
    """What `clbench pretrain` wrote about their origin into a weights file, or a language model's folder.

    Returns:
        None where there is nothing.

    Raises:
        CheckpointError: the file is broken.
    """
    path = path.expanduser()
    if path.is_dir():
        return _certificate_of_folder(path / CERTIFICATE)
    if path.suffix != ".safetensors":
        return None
    from safetensors import safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except Exception as error:  # the reader raises whatever the broken bytes lead it to
        raise CheckpointError(f"{path} cannot be read as weights ({one_line(error)})") from error
    return dict(json.loads(metadata["clbench"])) if "clbench" in metadata else None


def _certificate_of_folder(file: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else None
    except ValueError as error:
        raise CheckpointError(f"{file} is no certificate ({one_line(error)})") from error


def load_weights(
    backbone: nn.Module, path: Path, name: str, convert: Callable[[Weights], Weights] | None = None
) -> None:
    """Load a whole backbone, or nothing of it.

    Args:
        backbone: changed in place.
        path: see `read_weights`. The checkpoint's classifier is left out.
        name: of the backbone, for messages.
        convert: from the file's names and shapes to the backbone's.

    Raises:
        CheckpointError: the file cannot be read, or its keys or shapes are not the backbone's.
    """
    weights = read_weights(path)
    try:
        weights = weights if convert is None else convert(weights)
    except Exception as error:  # foreign weights fail in timm's conversion in as many ways as there are models
        raise CheckpointError(
            f"{path} holds weights of another architecture than {name} ({one_line(error)})"
        ) from error
    # batch counters are no weights, and files from before PyTorch 0.4.1 have none
    own = {k: v for k, v in backbone.state_dict().items() if k in weights or not k.endswith(".num_batches_tracked")}
    weights = {k: v for k, v in weights.items() if k in own or not k.startswith(CLASSIFIERS)}
    require_fit(own, weights, path, name)
    backbone.load_state_dict(backbone.state_dict() | weights)


def require_fit(own: Weights, weights: Weights, path: Path, name: str) -> None:
    """Refuse weights whose keys or shapes are others than the network's.

    Args:
        own: the network's tensors, of which only the shapes are looked at.
        weights: those of the file.
        path: of the file, for messages.
        name: of the network, for messages.

    Raises:
        CheckpointError: something does not fit.
    """
    problems = [text for key in [*own, *(weights.keys() - own.keys())] if (text := _misfit(key, own, weights))]
    if problems:
        raise CheckpointError(
            f"{path} holds weights of another architecture than {name}: "
            f"{sum(not _misfit(key, own, weights) for key in own)} of {len(own)} keys fit; {problems[0]}"
        )


def _misfit(key: str, own: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> str:
    if key not in weights:
        return f"{key!r} is missing"
    if key not in own:
        return f"{key!r} is not in the network"
    if own[key].shape != weights[key].shape:
        return f"{key!r} is {tuple(weights[key].shape)} where {tuple(own[key].shape)} is expected"
    return ""


def _read(path: Path) -> Any:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def _bare(key: str) -> str:
    for prefix in PREFIXES:
        key = key.removeprefix(prefix)
    return key


def one_line(error: BaseException) -> str:
    """The first line of an error's message, or its type's name, at most 160 characters."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return line if len(line) <= 160 else f"{line[:157]}..."
