"""A small vision transformer (Dosovitskiy et al. 2021, arXiv 2010.11929, section 3.1), pre-norm, without dropout.

Query, key, value and output are Linear layers of their own, so that a method can address each by its name.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clbench.errors import ConfigError, IncompatibleError


class Attention(nn.Module):
    """Multi-head self-attention, ``softmax(Q K^T / sqrt(d)) V`` per head (Vaswani et al. 2017, section 3.2).

    Args:
        width: length of a token, a multiple of ``heads``.
        heads: how many; each has ``d = width / heads``.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Mixed tokens (N, T, width) of tokens (N, T, width)."""
        query, key, value = (self._split(layer(tokens)) for layer in (self.query, self.key, self.value))
        mixed: Tensor = self.out(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))
        return mixed

    def _split(self, tokens: Tensor) -> Tensor:
        """From (N, T, width) to (N, heads, T, width / heads)."""
        count, length, width = tokens.shape
        return tokens.view(count, length, self.heads, width // self.heads).transpose(1, 2)


class FeedForward(nn.Module):
    """Two Linear layers around a GELU, four times as wide inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (N, T, width), each changed by itself."""
        changed: Tensor = self.down(F.gelu(self.up(tokens)))
        return changed


class Block(nn.Module):
    """Attention, then feed-forward, each normalised before and added to what came in."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (N, T, width)."""
        tokens = tokens + self.attention(self.norm1(tokens))
        changed: Tensor = tokens + self.feed_forward(self.norm2(tokens))
        return changed


class SmallViT(nn.Module):
    """Patch embedding, class token, learnt positions, pre-norm blocks; the class token is the feature.

    Linear weights of the blocks are drawn as in Glorot and Bengio 2010, equation 16, with biases of 0: at this width,
    N(0, 0.02^2), usual for larger transformers, begins too small. The class token and the positions are drawn from the
    latter, truncated.

    Args:
        shape: of one image, (C, H, W).
        width: length of a token.
        depth: blocks.
        heads: attention heads per block.
        patch: side of a patch in pixels; None: an eighth of the image's height, at least 2.

    Attributes:
        features_out: length of a feature vector, ``width``.

    Raises:
        ConfigError: the width is no multiple of the heads.
        IncompatibleError: a side of the image is no multiple of the patch.
    """

    def __init__(
        self, shape: tuple[int, int, int], width: int = 64, depth: int = 4, heads: int = 4, patch: int | None = None
    ) -> None:
        super().__init__()
        channels, height, breadth = shape
        side = max(2, height // 8) if patch is None else patch
        if width % heads:
            raise ConfigError(f"model.width of small_vit must be a multiple of its {heads} heads, got {width}")
        if height % side or breadth % side:
            raise IncompatibleError(
                f"small_vit cuts images into patches of {side} x {side} pixels, which does not divide images of "
                f"{height} x {breadth}; choose another model, e.g. model.name=small_cnn"
            )
        self.patch_embedding = nn.Conv2d(channels, width, side, stride=side)
        self.class_token = nn.Parameter(torch.empty(1, 1, width))
        self.positions = nn.Parameter(torch.empty(1, (height // side) * (breadth // side) + 1, width))
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.features_out = width
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.trunc_normal_(self.class_token, std=0.02)
        nn.init.trunc_normal_(self.positions, std=0.02)

    def forward(self, images: Tensor) -> Tensor:
        """Features (N, features_out) of images (N, C, H, W), floating point."""
        patches: Tensor = self.patch_embedding(images).flatten(2).transpose(1, 2)
        tokens = torch.cat((self.class_token.expand(len(images), -1, -1), patches), dim=1) + self.positions
        features: Tensor = self.norm(self.blocks(tokens)[:, 0])
        return features
