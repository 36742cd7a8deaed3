"""Which pairs of samples a program has and how much each counts, on the device."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def blocks_of_pair(pair, n_blocks):
    """Row and column, in blocks, of one of the n (n + 1) / 2 tiles on and above the diagonal.

    Row r of the triangle and row n - 1 - r have n + 1 tiles together: folded into one, they make a rectangle, which
    integers can divide without a square root that rounds.
    """
    row = pair // (n_blocks + 1)
    column = pair % (n_blocks + 1)
    folded = column >= n_blocks - row
    return tl.where(folded, n_blocks - 1 - row, row), tl.where(folded, column - 1, row + column)


@triton.jit
def group_of(group_ptr, sample, VIEWS: tl.constexpr):
    """Group of each sample; 32 bits hold it, and are compared twice as fast as 64."""
    return sample // VIEWS if VIEWS > 0 else tl.load(group_ptr + sample).to(tl.int32)


@triton.jit
def share_of(bounds_ptr, weights_ptr, group):
    """weight_k / n_k: what a squared distance within group k adds to the weighted sum."""
    size = tl.load(bounds_ptr + group + 1) - tl.load(bounds_ptr + group)
    return tl.load(weights_ptr + group) / size
