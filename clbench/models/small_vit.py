"""A small vision transformer (Dosovitskiy et al. 2021, arXiv 2010.11929, section 3.1), pre-norm, without dropout.

Query, key, value and output are Linear layers of their own, so that a method can address each by its name.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clbench.errors import ConfigError, IncompatibleError
from clbench.models.transformer import Prefix, Transformer, attend_with


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

    def forward(self, tokens: Tensor, prefix: Prefix | None = None) -> Tensor:
        """Mixed tokens (N, T, width) of tokens (N, T, width)."""
        query, key, value = (self._split(layer(tokens)) for layer in (self.query, self.key, self.value))
        mixed: Tensor = self.out(attend_with(query, key, value, prefix).transpose(1, 2).flatten(2))
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
    """What one block has: attention and feed-forward, and the norm before each."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width)


class SmallViT(Transformer):
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
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.width, self.depth = width, depth
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.trunc_normal_(self.class_token, std=0.02)
        nn.init.trunc_normal_(self.positions, std=0.02)

    def embed(self, images: Tensor) -> Tensor:
        """Tokens (N, T, width): the class token and one per patch, with their positions."""
        patches: Tensor = self.patch_embedding(images).flatten(2).transpose(1, 2)
        return torch.cat((self.class_token.expand(len(images), -1, -1), patches), dim=1) + self.positions

    def attend(self, layer: int, tokens: Tensor, prefix: Prefix | None = None) -> Tensor:
        """Tokens (N, T, width)."""
        block = self.blocks[layer]
        mixed: Tensor = tokens + block.attention(block.norm1(tokens), prefix)  # type: ignore[operator]
        return mixed

    def feed(self, layer: int, tokens: Tensor) -> Tensor:
        """What the feed-forward adds, (N, T, width)."""
        block = self.blocks[layer]
        change: Tensor = block.feed_forward(block.norm2(tokens))  # type: ignore[operator]
        return change

    def finish(self, tokens: Tensor) -> Tensor:
        """Tokens (N, T, width) after the last norm."""
        finished: Tensor = self.norm(tokens)
        return finished
