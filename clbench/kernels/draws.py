"""What a batch of stored images is made of: rows, windows and mirrorings, given or following from a seed."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from clbench.kernels.philox import AUGMENT, SAMPLE, SEEDS, bounded, permuted, philox, step_words
from clbench.space import require


class Order(Enum):
    """How a seed chooses rows."""

    IID = "iid"  # each row of each batch independently
    EPOCH = "epoch"  # every row once before any comes again: shuffled anew for each pass


class Given(NamedTuple):
    """Draws that were made elsewhere.

    Attributes:
        rows: of the store, (B,) int64; None for all rows in their order.
        offsets: (2, B) int64, down and right, each in [0, 2 padding]; None for no crop.
        mirrored: (B,) bool; None for none.
    """

    rows: Tensor | None = None
    offsets: Tensor | None = None
    mirrored: Tensor | None = None


class Seeded(NamedTuple):
    """Draws that follow from a seed and a step.

    Attributes:
        batch: images, B.
        seed: in [0, 2^63).
        step: counted from 0; a number, or one int64 in a tensor on the store's device.
        flip: mirror with probability one half.
        order: how rows are chosen.
        pool: rows to choose from, (M,) int64; None for all of the store.
    """

    batch: int
    seed: int
    step: int | Tensor
    flip: bool = True
    order: Order = Order.IID
    pool: Tensor | None = None


Draws: TypeAlias = Given | Seeded


def drawn(draws: Seeded, count: int, padding: int, device: torch.device | str = "cpu") -> Given:
    """What a seed and a step stand for, in numpy; a step on a GPU is waited for.

    Args:
        draws: the seed, the step, and what is asked.
        count: rows of the store.
        padding: of the crop.
        device: where the draws are wanted.
    """
    step, seed, batch = int(draws.step), draws.seed, np.arange(draws.batch)
    words = philox(seed, batch, *step_words(step), AUGMENT)
    offsets = torch.from_numpy(np.stack(words[:2]) * (2 * padding + 1) >> 32)
    pool = None if draws.pool is None else draws.pool.cpu()
    places = torch.from_numpy(_places(draws, step, batch, count if pool is None else len(pool)))
    return Given(
        (places if pool is None else pool[places]).to(device),
        offsets.to(device) if padding else None,
        torch.from_numpy(words[2] >> 31 == 1).to(device) if draws.flip else None,
    )


def _places(draws: Seeded, step: int, batch: np.ndarray, count: int) -> np.ndarray:
    if draws.order is Order.IID:
        high, low, *_ = philox(draws.seed, batch, *step_words(step), SAMPLE)
        return np.asarray(bounded(high, low, count))
    places = step * draws.batch + batch
    return permuted(places % count, count, draws.seed, places // count)


def check_draws(operation: str, draws: Draws, count: int) -> None:
    """See that draws can be taken from a store of ``count`` images.

    Raises:
        ConfigError: what does not hold.
    """
    if isinstance(draws, Given):
        lengths = {d.shape[-1] for d in draws if d is not None} | ({count} if draws.rows is None else set())
        require(len(lengths) == 1, f"{operation}: draws", "as many as the images of the batch", sorted(lengths))
        return
    require(draws.batch >= 1, f"{operation}: batch", ">= 1", draws.batch)
    require(0 <= draws.seed < SEEDS, f"{operation}: seed", "in [0, 2^63)", draws.seed)
    choices = count if draws.pool is None else len(draws.pool)
    require(0 < choices < 2**31, f"{operation}: rows to draw from", "at least one and below 2^31", choices)
