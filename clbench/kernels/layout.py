"""How images lie in memory: planes of one channel each, or channels last, all numbers of a pixel side by side.

Networks take them channels last. Where a store has them so, nothing has to be interleaved, and the row of a crop is one
stretch of memory instead of one in each plane: on the CPU a batch takes half the time.
"""

from __future__ import annotations

import torch
from torch import Tensor


def is_channels_last(images: Tensor) -> bool:
    """Whether images (N, C, H, W) lie channels last; true also where both layouts are the same."""
    return images.is_contiguous(memory_format=torch.channels_last)


def interleaved(images: Tensor) -> Tensor:
    """Images (N, C, H, W) as rows of whole pixels, (N, H, W C); a view where they lie channels last."""
    count, channels, height, width = images.shape
    pixels = images.permute(0, 2, 3, 1) if is_channels_last(images) else torch.stack(images.unbind(1), -1)
    return pixels.reshape(count, height, width * channels)


def pick(column: Tensor, rows: Tensor) -> Tensor:
    """Rows (B,) int64 of a column (N, ...), laid out as the column is."""
    if column.dim() == 4 and is_channels_last(column):
        return column.permute(0, 2, 3, 1).index_select(0, rows).permute(0, 3, 1, 2)
    return column.index_select(0, rows)  # whole rows; indexing with [] would copy element by element
