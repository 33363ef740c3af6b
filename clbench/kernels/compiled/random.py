"""`clbench.kernels.philox` in Triton, integer for integer."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def philox(seed, c0, c1, c2, c3):
    """Four words of 32 random bits; Triton's own Philox, which 64-bit counters would silently make another one."""
    return tl.philox(seed, c0.to(tl.uint32), c1.to(tl.uint32), c2.to(tl.uint32), c3.to(tl.uint32))


@triton.jit
def bounded(high, low, below):
    """Uniform over [0, below), below < 2^31; int64."""
    wide = below.to(tl.uint64)
    return ((high.to(tl.uint64) * wide + ((low.to(tl.uint64) * wide) >> 32)) >> 32).to(tl.int64)


@triton.jit
def permuted(place, count, seed, epoch, BITS: tl.constexpr, PERMUTE: tl.constexpr, ROUNDS: tl.constexpr):
    """Where the epoch's permutation of [0, count) takes one place, an int64 scalar."""
    MASK: tl.constexpr = (1 << BITS) - 1
    outside = count > 0
    while outside:
        left = place >> BITS
        right = place & MASK
        for number in tl.static_range(ROUNDS):
            word, _b, _c, _d = philox(
                seed, right, tl.full((), number, tl.uint32), epoch, tl.full((), PERMUTE, tl.uint32)
            )
            old = right
            right = left ^ (word.to(tl.int64) & MASK)
            left = old
        place = (left << BITS) | right
        outside = place >= count
    return place
