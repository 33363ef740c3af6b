"""The language models that come with this package, by their names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clbench.models import small_llama, world_llama
from clbench.models.config import EMBEDDED_CAUSAL, EMBEDDED_WORLD

RANDOM: dict[str, Any] = {module.NAME: module for module in (small_llama, world_llama)}
"""Modules of those that begin at random."""

TRAINED: dict[str, Any] = {EMBEDDED_CAUSAL: small_llama, EMBEDDED_WORLD: world_llama}
"""Modules of those that bring their weights."""

BOTH = RANDOM | TRAINED


def weights_of(name: str | None) -> Path | None:
    """The folder with an embedded model's weights; None for other models."""
    return TRAINED[name].WEIGHTS if name in TRAINED else None
