from __future__ import annotations

import numpy as np
import pytest
import torch

from clbench.kernels.philox import bounded, permuted, philox
from tests.kernels.paths import fresh

PI = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344, 0xA4093822, 0x299F31D0)
KNOWN = [
    ((0, 0, 0, 0), 0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, 2**64 - 1, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (PI[:4], PI[5] << 32 | PI[4], (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
]
"""Counters, key and words: the known answers that Random123 publishes for philox4x32-10."""


@pytest.mark.parametrize(("counters", "key", "wanted"), KNOWN)
def test_the_known_answers(counters: tuple[int, ...], key: int, wanted: tuple[int, ...]) -> None:
    for made in (np.asarray, torch.tensor):
        words = philox(key, *(made([word]) for word in counters))
        assert tuple(int(word[0]) for word in words) == wanted
    assert philox(key, *counters) == wanted


def test_numpy_and_torch_draw_the_same_integers() -> None:
    counters = torch.randint(2**32, (4, 1000), generator=fresh())
    for seed in (0, 2**31, 2**63 - 1):
        for one, other in zip(philox(seed, *counters), philox(seed, *counters.numpy()), strict=True):
            assert np.array_equal(one.numpy(), other)


def test_a_bounded_draw_is_the_product_s_upper_half() -> None:
    words = torch.randint(2**32, (2, 200), generator=fresh()).tolist()
    for high, low in zip(*words, strict=True):
        for below in (1, 3, 50_000, 2**31 - 1):
            wanted = (high << 32 | low) * below >> 64
            assert int(bounded(np.asarray([high]), np.asarray([low]), below)[0]) == wanted < below


@pytest.mark.parametrize("count", [1, 2, 3, 7, 50, 1000, 4097])
def test_every_epoch_is_a_permutation_and_another_one(count: int) -> None:
    first, second = (permuted(np.arange(count), count, 99, epoch) for epoch in (0, 2**32 - 1))
    assert np.array_equal(np.sort(first), np.arange(count))
    assert np.array_equal(np.sort(second), np.arange(count))
    assert count < 10 or not np.array_equal(first, second)


def test_a_permutation_takes_each_place_anywhere_and_pairs_independently() -> None:
    count, epochs = 10, 4000
    places, epoch = np.tile(np.arange(count), epochs), np.repeat(np.arange(epochs), count)
    table = permuted(places, count, int(torch.randint(2**62, (), generator=fresh())), epoch).reshape(epochs, count)
    for place in (0, 4, 9):
        counts = np.bincount(table[:, place], minlength=count)
        assert ((counts - epochs / count) ** 2 / (epochs / count)).sum() < 9 + 6 * 18**0.5  # 6 sigma of chi-square
    pairs = np.bincount(table[:, 0] * count + table[:, 1], minlength=count**2)[~np.eye(count, dtype=bool).ravel()]
    expected = epochs / len(pairs)
    assert ((pairs - expected) ** 2 / expected).sum() < 89 + 6 * 178**0.5
