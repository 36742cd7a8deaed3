"""The groups of a program and the features of their members, on the device: what both kernels of the closed form walk.

A program owns a tile of columns and walks over the samples, some groups side by side, a few members of each at a time.
Their loads are all under way before the first is used or anything is stored: no compiler moves a load over a store that
might be to the same place. All arithmetic inside a group is private to a thread, so nothing is shuffled until a tile is
done.
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
def _row_of(order_ptr, start, size, j, VIEWS: tl.constexpr):
    if VIEWS > 0:
        return (start + j)[:, None]
    return tl.load(order_ptr + start + j, mask=j < size, other=0)[:, None]


@triton.jit
def rows_of(order_ptr, start, size, j, VIEWS: tl.constexpr, AHEAD: tl.constexpr):
    """Rows of the members from j on of each group that has them, AHEAD columns of numbers."""
    rows = (_row_of(order_ptr, start, size, j, VIEWS),)
    for i in tl.static_range(1, AHEAD):
        row = _row_of(order_ptr, start, size, j + i, VIEWS)
        rows = rows + (row,)  # type: ignore[assignment]  # noqa: RUF005 - the compiler knows no unpacking
    return rows


@triton.jit
def there(size, j, inside):
    """Which features of member j of each group there are."""
    return (j < size)[:, None] & inside[None, :]


@triton.jit
def load_members(x_ptr, rows, row_stride, size, j, column, inside, AHEAD: tl.constexpr):
    """The members from j on of each group, AHEAD of them as they are stored, 0 where it has none."""
    members = (tl.load(x_ptr + rows[0] * row_stride + column[None, :], mask=there(size, j, inside), other=0),)
    for i in tl.static_range(1, AHEAD):
        x = tl.load(x_ptr + rows[i] * row_stride + column[None, :], mask=there(size, j + i, inside), other=0)
        members = members + (x,)  # type: ignore[assignment]  # noqa: RUF005
    return members


@triton.jit
def from_first(x, first, size, j, VIEWS: tl.constexpr, AHEAD: tl.constexpr):
    """Difference from the group's first member, 0 where there is no member j."""
    difference = x - first
    always = VIEWS > 0 and VIEWS % AHEAD == 0
    return difference if always else tl.where((j < size)[:, None], difference, 0)
