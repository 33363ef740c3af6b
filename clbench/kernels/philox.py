"""Counter-based random numbers: Philox4x32-10 (Salmon et al. 2011, "Parallel Random Numbers: As Easy as 1, 2, 3").

A draw is a function of a key and of four counter words and has no state, so that any device computes any draw of any
step by itself, in any order. One text serves numpy and torch; `clbench.kernels.compiled.random` is the same in Triton,
integer for integer. On the CPU use numpy: some hundred small operations cost a fifth of what they cost in torch.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

Words: TypeAlias = Any
"""An int64 tensor or int64 numpy array of at least one dimension, or a whole number; each value in [0, 2^32)."""

LOW = 0xFFFFFFFF
SEEDS = 1 << 63  # seeds are below
SAMPLE, AUGMENT, PERMUTE = range(3)
"""The fourth counter word: what a draw is for, so that two uses of one seed share no draw."""

ROUNDS = 6  # of the Feistel network


def philox(seed: int, c0: Words, c1: Words, c2: Words, c3: Words) -> tuple[Words, Words, Words, Words]:
    """Four words of 32 random bits for each counter (c0, c1, c2, c3), which broadcast.

    Products wrap modulo 2^64 in 64-bit arrays, which leaves their halves, the only parts used, as they are.
    """
    key0, key1 = seed & LOW, seed >> 32 & LOW
    for _ in range(10):
        first, second = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1, c2, c3 = (second >> 32 & LOW) ^ c1 ^ key0, second & LOW, (first >> 32 & LOW) ^ c3 ^ key1, first & LOW
        key0, key1 = key0 + 0x9E3779B9 & LOW, key1 + 0xBB67AE85 & LOW
    return c0, c1, c2, c3


def bounded(high: Words, low: Words, below: int) -> Words:
    """Uniform over [0, below): floor(u * below / 2^64) of the 64-bit number u = high * 2^32 + low; below < 2^31."""
    return high * below + (low * below >> 32) >> 32


def half_bits(count: int) -> int:
    """Bits in each half of the Feistel network over [0, count): the fewest whose square covers it."""
    return max(1, (max(count - 1, 1).bit_length() + 1) // 2)


def permuted(places: np.ndarray[Any, Any], count: int, seed: int, epoch: Words) -> np.ndarray[Any, Any]:
    """Where a random permutation of [0, count) takes ``places``: a shuffle of its own per seed and epoch.

    A Feistel network keyed by Philox permutes [0, 4^bits); what falls outside of [0, count) goes through it again
    (cycle walking), which permutes [0, count).

    Args:
        places: (B,) int64 in [0, count).
        count: how many are permuted.
        seed: of all permutations.
        epoch: which permutation, (B,) int64 or one number.
    """
    bits = half_bits(count)
    mask = (1 << bits) - 1
    found = places
    outside = np.ones(places.shape, dtype=bool)
    while outside.any():
        left, right = found >> bits, found & mask
        for number in range(ROUNDS):
            left, right = right, left ^ (philox(seed, right, number, epoch & LOW, PERMUTE)[0] & mask)
        found = np.where(outside, left << bits | right, found)
        outside = found >= count
    return found


def step_words(step: int) -> tuple[int, int]:
    """Low and high word of a step's number."""
    return step & LOW, step >> 32 & LOW
