"""The groups of a program and the features of their members, on the device: what both kernels of the closed form walk.

A program owns a tile of columns and walks over the samples, some groups side by side, one member of each at a time.
All arithmetic inside a group is private to a thread, so nothing is shuffled until a tile is done.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def starts_and_sizes(bounds_ptr, group, n_groups, VIEWS: tl.constexpr):
    """Where each group starts in the row order, and its number of members: 0 past the last group."""
    if VIEWS > 0:
        return group.to(tl.int64) * VIEWS, tl.where(group < n_groups, VIEWS, 0)
    start = tl.load(bounds_ptr + group, mask=group < n_groups, other=0)
    stop = tl.load(bounds_ptr + group + 1, mask=group < n_groups, other=0)
    return start, (stop - start).to(tl.int32)


@triton.jit
def rows_of(order_ptr, start, size, j, VIEWS: tl.constexpr):
    """Row of member j of each group that has one, as a column of numbers."""
    if VIEWS > 0:
        return (start + j)[:, None]
    return tl.load(order_ptr + start + j, mask=j < size, other=0)[:, None]


@triton.jit
def load_members(
    x_ptr, order_ptr, start, size, j, column, inside, row_stride, VIEWS: tl.constexpr, ACC: tl.constexpr
):  # fmt: skip
    """Member j of each group, 0 where it has none."""
    rows = rows_of(order_ptr, start, size, j, VIEWS)
    here = (j < size)[:, None] & inside[None, :]
    return tl.load(x_ptr + rows * row_stride + column[None, :], mask=here, other=0).to(ACC)


@triton.jit
def from_first(x, first, size, j, VIEWS: tl.constexpr):
    """Difference from the group's first member, 0 where there is no member j."""
    difference = x - first
    return difference if VIEWS > 0 else tl.where((j < size)[:, None], difference, 0)
