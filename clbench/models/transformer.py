"""Vision transformers opened up: the steps between images and features, for methods that put something in between.

tokens = embed(images)                       # class token first, positions added
for layer in range(depth):                   # these and the last norm: through(tokens)
    tokens = attend(layer, tokens)           # x + Attention(Norm1(x))
    tokens = tokens + feed(layer, tokens)    # FeedForward(Norm2(x)), the change without what came in
feature = finish(tokens)[:, 0]               # the class token, normalised
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clbench.errors import IncompatibleError

Prefix = tuple[Tensor, Tensor]
"""Keys and values, (N, P, width) each, that one layer's attention sees before those of the tokens."""


class Transformer(nn.Module, ABC):
    """A pre-norm vision transformer whose feature is its class token.

    Attributes:
        width: length of a token and of a feature.
        depth: blocks.
    """

    width: int
    depth: int

    @property
    def features_out(self) -> int:
        """Length of a feature vector, ``width``."""
        return self.width

    @abstractmethod
    def embed(self, images: Tensor) -> Tensor:
        """Tokens (N, T, width), the class token first, of images (N, C, H, W), floating point."""

    @abstractmethod
    def attend(self, layer: int, tokens: Tensor, prefix: Prefix | None = None) -> Tensor:
        """Tokens (N, T, width) after the attention of one block, added to what came in."""

    @abstractmethod
    def feed(self, layer: int, tokens: Tensor) -> Tensor:
        """What the feed-forward of one block adds to tokens (N, T, width)."""

    @abstractmethod
    def finish(self, tokens: Tensor) -> Tensor:
        """Tokens (N, T, width) after the last norm."""

    def through(self, tokens: Tensor, prefixes: Sequence[Prefix] = ()) -> Tensor:
        """Tokens (N, T, width) after all blocks and the last norm; the first blocks have prefixes, one each."""
        for layer in range(self.depth):
            tokens = self.attend(layer, tokens, prefixes[layer] if layer < len(prefixes) else None)
            tokens = tokens + self.feed(layer, tokens)
        return self.finish(tokens)

    def forward(self, images: Tensor) -> Tensor:
        """Features (N, width) of images (N, C, H, W), floating point."""
        return self.through(self.embed(images))[:, 0]


class TimmTransformer(Transformer):
    """A timm `VisionTransformer` (ViT, DeiT) opened up; `no_transformer` says which ones cannot be.

    Args:
        network: timm's, without its classifier; its weights stay where they are.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network
        self.width, self.depth = int(network.embed_dim), len(network.blocks)

    def embed(self, images: Tensor) -> Tensor:
        """Tokens (N, T, width)."""
        network = self.network
        tokens: Tensor = network.norm_pre(network.patch_drop(network._pos_embed(network.patch_embed(images))))
        return tokens

    def attend(self, layer: int, tokens: Tensor, prefix: Prefix | None = None) -> Tensor:
        """Tokens (N, T, width)."""
        block = self.network.blocks[layer]
        normed = block.norm1(tokens)
        mixed = block.attn(normed) if prefix is None else _prefixed(block.attn, normed, prefix)
        changed: Tensor = tokens + block.drop_path1(block.ls1(mixed))
        return changed

    def feed(self, layer: int, tokens: Tensor) -> Tensor:
        """What the feed-forward adds, (N, T, width)."""
        block = self.network.blocks[layer]
        change: Tensor = block.drop_path2(block.ls2(block.mlp(block.norm2(tokens))))
        return change

    def finish(self, tokens: Tensor) -> Tensor:
        """Tokens (N, T, width) after the last norms."""
        finished: Tensor = self.network.fc_norm(self.network.norm(tokens))
        return finished


def no_transformer(backbone: nn.Module) -> str | None:
    """Why a backbone cannot be opened up, in one clause; None where it can."""
    plain = isinstance(backbone, Transformer) or _is_plain(backbone)
    return None if plain else "it works inside the backbone, which is not a plain vision transformer"


def opened(backbone: nn.Module) -> Transformer:
    """The backbone as a `Transformer`, sharing its weights.

    Raises:
        IncompatibleError: it is no plain vision transformer.
    """
    if reason := no_transformer(backbone):
        raise IncompatibleError(reason)
    return backbone if isinstance(backbone, Transformer) else TimmTransformer(backbone)


def _is_plain(backbone: nn.Module) -> bool:
    """Whether it is a vision transformer of timm whose feature is its class token."""
    parts = ("patch_embed", "_pos_embed", "patch_drop", "norm_pre", "blocks", "norm", "fc_norm", "cls_token")
    steps = ("norm1", "attn", "ls1", "drop_path1", "norm2", "mlp", "ls2", "drop_path2")
    return (
        all(hasattr(backbone, part) for part in parts)
        and all(hasattr(block, step) for block in backbone.blocks for step in steps)  # type: ignore[union-attr]
        and backbone.cls_token is not None
        and not hasattr(backbone, "dist_token")  # distilled: its feature is the mean of two tokens
        and getattr(backbone, "global_pool", None) == "token"
    )


def _prefixed(attention: Any, tokens: Tensor, prefix: Prefix) -> Tensor:
    """The attention of timm over tokens (N, T, width) with more keys and values before those of the tokens."""
    count, length, _ = tokens.shape
    split = attention.qkv(tokens).view(count, length, 3, attention.num_heads, attention.head_dim)
    query, key, value = split.permute(2, 0, 3, 1, 4)
    query, key = attention.q_norm(query), attention.k_norm(key)
    mixed = attend_with(query, key, value, prefix).transpose(1, 2).flatten(2)
    out: Tensor = attention.proj(attention.norm(mixed))
    return out


def attend_with(query: Tensor, key: Tensor, value: Tensor, prefix: Prefix | None) -> Tensor:
    """Scaled dot-product attention per head, with a prefix's keys and values before the tokens' own.

    Args:
        query: (N, heads, T, d).
        key: (N, heads, T, d).
        value: (N, heads, T, d).
        prefix: (N, P, heads * d) each.

    Returns:
        (N, heads, T, d).
    """
    if prefix is not None:
        heads = query.shape[1]
        first, second = (p.unflatten(2, (heads, -1)).transpose(1, 2) for p in prefix)
        key, value = torch.cat((first, key), 2), torch.cat((second, value), 2)
    return F.scaled_dot_product_attention(query, key, value)
