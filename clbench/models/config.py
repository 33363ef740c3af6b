"""Which network a run trains, as the command line gives it. Imports no torch, so that help is quick."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from clbench.errors import ConfigError

EMBEDDED = "pretrained_vit"
"""The backbone that comes with its weights inside this package."""

EMBEDDED_CAUSAL = "pretrained_llama"
"""The causal language model of letters and digits whose weights and tokenizer come inside this package."""

EMBEDDED_WORLD = "pretrained_world_llama"
"""The causal language model of a small world's facts whose weights and tokenizer come inside this package."""


class HeadKind(Enum):
    """How features become logits."""

    LINEAR = "linear"
    COSINE = "cosine"


class Dtype(Enum):
    """What weights are stored and computed in."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


class Routing(Enum):
    """How instructions decide which set of adapters learns a task and answers a question."""

    NONE = "none"  # one set for all
    NEAREST = "nearest"  # trained: the like enough group, else a new one; asked: the nearest group
    RELEASED = "released"  # as CoIN's code: asked, what is like none goes to the newest group


@dataclass
class AdapterConfig:
    """Low-rank adapters (LoRA, arXiv 2106.09685) on a frozen language model, by peft."""

    rank: int = 0  # of each adapter; 0: no adapters, all weights train
    alpha: float | None = None  # what the adapters add is scaled by alpha / rank; null: 2 rank
    dropout: float = 0.0  # of what enters an adapter
    targets: list[str] = field(default_factory=lambda: ["all-linear"])  # modules that get one, by their names' ends
    routing: Routing = Routing.NONE  # which set of adapters learns and answers
    threshold: float = 0.3  # likeness of instructions, in [0, 1], from which a group shares its adapters

    def __post_init__(self) -> None:
        """Check each field.

        Raises:
            ConfigError: one is out of range.
        """
        if self.rank < 0:
            raise ConfigError(f"model.adapter.rank must be >= 0, got {self.rank}")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"model.adapter.dropout must be in [0, 1), got {self.dropout}")
        if self.alpha is not None and self.alpha <= 0:
            raise ConfigError(f"model.adapter.alpha must be > 0 or null, got {self.alpha}")
        if not 0 <= self.threshold <= 1:
            raise ConfigError(f"model.adapter.threshold must be in [0, 1], got {self.threshold}")
        if not self.targets:
            raise ConfigError("model.adapter.targets must name modules, e.g. [q_proj,v_proj] or [all-linear], got []")


@dataclass
class ModelConfig:
    """A backbone, where its weights come from, and its head."""

    name: str | None = None  # resnet32, ..., timm/NAME, or a language model's folder or hub name; null: the default
    checkpoint: Path | None = None  # weights file to start from: .pth, .pt, .th, .bin or .safetensors
    pretrained: bool = False  # start from the published weights; timm models only
    head: HeadKind = HeadKind.LINEAR  # how features become logits
    width: int | None = None  # channels of the first stage, or of the embedding; null: the network's own
    dtype: Dtype = Dtype.FLOAT32  # of a language model's weights
    gradient_checkpointing: bool = False  # compute a language model's activations twice to save memory
    adapter: AdapterConfig = field(default_factory=AdapterConfig)

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
