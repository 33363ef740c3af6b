"""Adapters in every block of a frozen vision transformer, as AdaptFormer has them.

Chen et al. 2022, arXiv 2205.13535, section 3: parallel to the feed-forward of a block, whose input is x,

    x + FeedForward(Norm2(x)) + scale * Up(Dropout(ReLU(Down(x))))

Down is a Linear layer to ``rank`` numbers and Up one back, both with bias; Up begins at zero, so that a fresh adapter
changes nothing. The weights of all blocks are stacked into four tensors, so that a whole set of adapters is copied,
averaged or pulled elsewhere in four operations.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clbench.models.transformer import Transformer


class AdapterWeights(NamedTuple):
    """One adapter for each of L blocks; with a second dimension N, one for each block and example.

    Attributes:
        down_weight: (L, rank, width) or (L, N, rank, width).
        down_bias: (L, rank) or (L, N, rank).
        up_weight: (L, width, rank) or (L, N, width, rank).
        up_bias: (L, width) or (L, N, width).
    """

    down_weight: Tensor
    down_bias: Tensor
    up_weight: Tensor
    up_bias: Tensor

    def change(self, layer: int, tokens: Tensor, scale: float, dropout: float) -> Tensor:
        """What one block's adapter adds to tokens (N, T, width), the same shape; ``dropout`` is 0 in evaluation."""
        down, down_bias, up, up_bias = (tensor[layer] for tensor in self)
        if down.ndim == 3:
            hidden = torch.baddbmm(down_bias[:, None], tokens, down.mT).relu_()
            return torch.baddbmm(scale * up_bias[:, None], hidden, scale * up.mT)
        hidden = F.relu(F.linear(tokens, down, down_bias))
        if dropout:
            hidden = F.dropout(hidden, dropout)
        return F.linear(hidden, scale * up, scale * up_bias)

    def copy(self) -> AdapterWeights:
        """The same numbers in memory of their own, without gradients."""
        return AdapterWeights(*(tensor.detach().clone() for tensor in self))


class Begun(NamedTuple):
    """What no adapter changes: the first block up to where its adapter comes in.

    Attributes:
        tokens: (N, T, width) after the first block's attention.
        fed: (N, T, width), what its feed-forward adds.
    """

    tokens: Tensor
    fed: Tensor

    def rows(self, chosen: Tensor) -> Begun:
        """Those of some examples, by their numbers (M,) int64."""
        return Begun(self.tokens[chosen], self.fed[chosen])


class AdaptedTransformer(nn.Module):
    """A frozen vision transformer with one set of adapters to train.

    Args:
        transformer: frozen here.
        rank: numbers between Down and Up.
        scale: of the adapters' change.
        dropout: share of those numbers set to zero in training.

    Attributes:
        features_out: length of a feature vector.
    """

    def __init__(self, transformer: Transformer, rank: int, scale: float = 0.1, dropout: float = 0.1) -> None:
        super().__init__()
        self.transformer = transformer.requires_grad_(False)
        self.rank, self.scale, self.dropout = rank, scale, dropout
        self.features_out = transformer.width
        depth, width = transformer.depth, transformer.width
        self.down_weight = nn.Parameter(torch.empty(depth, rank, width))
        self.down_bias = nn.Parameter(torch.empty(depth, rank))
        self.up_weight = nn.Parameter(torch.empty(depth, width, rank))
        self.up_bias = nn.Parameter(torch.empty(depth, width))
        self.to(next(transformer.parameters()).device)
        self.reset()

    @torch.no_grad()
    def reset(self) -> None:
        """Draw fresh adapters: Down as a Linear layer's weight is drawn, everything else 0."""
        nn.init.uniform_(self.down_weight, -(self.transformer.width**-0.5), self.transformer.width**-0.5)
        for tensor in (self.down_bias, self.up_weight, self.up_bias):
            nn.init.zeros_(tensor)

    @property
    def adapters(self) -> list[nn.Parameter]:
        """The parameters in training, in the order of `AdapterWeights`."""
        return [self.down_weight, self.down_bias, self.up_weight, self.up_bias]

    @property
    def weights(self) -> AdapterWeights:
        """The adapters in training: the parameters themselves, not a copy."""
        return AdapterWeights(*self.adapters)

    def begin(self, images: Tensor) -> Begun:
        """The part of the way that all adapters share, of images (N, C, H, W), floating point."""
        with torch.no_grad():
            tokens = self.transformer.attend(0, self.transformer.embed(images))
            return Begun(tokens, self.transformer.feed(0, tokens))

    def finish(self, begun: Begun, weights: AdapterWeights | None) -> Tensor:
        """Features (N, features_out) through the given adapters; through none where None."""
        tokens = self._through(0, begun.tokens, begun.fed, weights)
        for layer in range(1, self.transformer.depth):
            tokens = self.transformer.attend(layer, tokens)
            tokens = self._through(layer, tokens, self.transformer.feed(layer, tokens), weights)
        return self.transformer.finish(tokens)[:, 0]

    def forward(self, images: Tensor) -> Tensor:
        """Features (N, features_out) of images (N, C, H, W) through the adapters in training."""
        return self.finish(self.begin(images), self.weights)

    def _through(self, layer: int, tokens: Tensor, fed: Tensor, weights: AdapterWeights | None) -> Tensor:
        if weights is None:
            return tokens + fed
        dropout = self.dropout if self.training else 0.0
        return tokens + fed + weights.change(layer, tokens, self.scale, dropout)
