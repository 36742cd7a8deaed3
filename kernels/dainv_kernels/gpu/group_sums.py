"""The forward kernel of the closed form: one read of the features, sums of squares around means, the loss.

With RELU it reads pre-activations, writes the activation on the way and takes the sums of that. The program that
finishes last adds up what all have left, in a fixed order: no float is added atomically, so the same input gives the
same bits. kernels/README.md derives it.
"""

from __future__ import annotations

import triton
import triton.language as tl

from dainv_kernels.gpu.loss import store_loss
from dainv_kernels.gpu.members import from_first, load_members, rows_of, starts_and_sizes, there


@triton.jit
def _activated(x, bias, BIAS: tl.constexpr, RELU: tl.constexpr, STORED: tl.constexpr, ACC: tl.constexpr):
    """What the loss is taken of: the features, or the ReLU of them plus a bias as it is stored. NaN stays NaN."""
    x = x.to(ACC)
    if BIAS:
        x = (x + bias).to(STORED).to(ACC)
    if RELU:
        x = tl.where(x < 0, 0, x)
    return x


@triton.jit
def _activate(
    x, bias, activation_ptr, row, activation_stride, size, j, column, inside, RELU: tl.constexpr, BIAS: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """What the loss is taken of, of member j of each group; with RELU it is written."""
    stored: tl.constexpr = x.dtype
    x = _activated(x, bias, BIAS, RELU, stored, ACC)
    if RELU:
        target = activation_ptr + row * activation_stride + column[None, :]
        tl.store(target, x.to(activation_ptr.dtype.element_ty), mask=there(size, j, inside))
    return x


@triton.jit
def group_sums_kernel(
    x_ptr,  # [B, D], rows row_stride apart
    first_ptr,  # [D] the first of these rows, also where other programs write over it
    bias_ptr,  # [C], if BIAS: added to the features of column d is number d // inner % C
    order_ptr,  # [B]
    bounds_ptr,  # [B + 1]
    n_groups_ptr,  # []
    weights_ptr,  # [B] float64
    activation_ptr,  # [B, D] out, rows activation_stride apart, if RELU
    means_ptr,  # [splits, D] out: mean of a split's samples - first sample of the batch; mean_offset_ptr if one
    partial_ptr,  # [3, splits, tiles] float64 out: weighted within-group and total sum of squares, number of samples
    arrived_ptr,  # [] int32: programs that are done; 0 before and after
    mean_offset_ptr,  # [D] out: batch mean - first sample
    sums_ptr,  # [2] float64 out: both sums over all tiles
    loss_ptr,  # [] out
    n_rows,
    n_features,
    row_stride,
    activation_stride,
    inner,
    n_channels,
    VIEWS: tl.constexpr,  # M, or 0 for groups of any size in any order
    RELU: tl.constexpr,  # write the ReLU of the features, and take the sums of that
    BIAS: tl.constexpr,  # add a bias before
    SPLITS: tl.constexpr,  # number of splits, or the next power of two
    AHEAD: tl.constexpr,  # members that are asked for at a time; M where that is not too many
    GROUP_BLOCK: tl.constexpr,
    BLOCK_D: tl.constexpr,
    ACC: tl.constexpr,
):
    """Sums of squares of one tile of columns over one split of the groups, and the mean of its samples."""
    tile = tl.program_id(0)
    split = tl.program_id(1)
    n_tiles = tl.num_programs(0)
    n_splits = tl.num_programs(1)
    column = tile.to(tl.int64) * BLOCK_D + tl.arange(0, BLOCK_D)
    inside = column < n_features
    bias = tl.zeros([BLOCK_D], dtype=ACC)
    if BIAS:
        bias = tl.load(bias_ptr + column // inner % n_channels, mask=inside, other=0).to(ACC)
    origin = tl.load(first_ptr + column, mask=inside, other=0)
    origin = _activated(origin, bias, BIAS, RELU, x_ptr.dtype.element_ty, ACC)
    bias = bias[None, :]
    n_groups = n_rows // VIEWS if VIEWS > 0 else tl.load(n_groups_ptr)

    weighted = tl.zeros([GROUP_BLOCK, BLOCK_D], dtype=ACC)
    # Samples seen so far by each lane: their number, mean (as an offset from `origin`) and sum of squares around it.
    count = tl.zeros([GROUP_BLOCK], dtype=ACC)
    mean_so_far = tl.zeros([GROUP_BLOCK, BLOCK_D], dtype=ACC)
    around_mean = tl.zeros([GROUP_BLOCK, BLOCK_D], dtype=ACC)
    block = split * GROUP_BLOCK
    while block < n_groups:
        group = block + tl.arange(0, GROUP_BLOCK)
        start, size = starts_and_sizes(bounds_ptr, group, n_groups, VIEWS)
        rows = rows_of(order_ptr, start, size, 0, VIEWS, AHEAD)
        members = load_members(x_ptr, rows, row_stride, size, 0, column, inside, AHEAD)
        if BIAS:  # in place: every thread has the first row before one writes over it; without a bias either will do
            tl.debug_barrier()
        first = _activate(
            members[0], bias, activation_ptr, rows[0], activation_stride, size, 0, column, inside, RELU, BIAS, ACC
        )
        s1 = tl.zeros([GROUP_BLOCK, BLOCK_D], dtype=ACC)
        s2 = tl.zeros([GROUP_BLOCK, BLOCK_D], dtype=ACC)
        for i in tl.static_range(1, AHEAD):
            x = _activate(
                members[i], bias, activation_ptr, rows[i], activation_stride, size, i, column, inside, RELU, BIAS, ACC
            )
            difference = from_first(x, first, size, i, VIEWS, AHEAD)
            s1 += difference
            s2 += difference * difference
        if VIEWS != AHEAD:
            longest = tl.max(size, axis=0)
            j = AHEAD
            while j < longest:
                rows = rows_of(order_ptr, start, size, j, VIEWS, AHEAD)
                members = load_members(x_ptr, rows, row_stride, size, j, column, inside, AHEAD)
                for i in tl.static_range(AHEAD):
                    x = _activate(
                        members[i], bias, activation_ptr, rows[i], activation_stride, size, j + i, column, inside,
                        RELU, BIAS, ACC,
                    )  # fmt: skip
                    difference = from_first(x, first, size, j + i, VIEWS, AHEAD)
                    s1 += difference
                    s2 += difference * difference
                j += AHEAD
        n = size.to(ACC)[:, None]
        mean = s1 / tl.maximum(n, 1)
        within = s2 - s1 * mean
        weight = tl.load(weights_ptr + group, mask=group < n_groups, other=0).to(ACC)
        weighted += weight[:, None] * within
        # Chan's update: only positive terms are added, so that not even an outlier as origin costs digits.
        count_before = count
        count += size.to(ACC)
        share = (size.to(ACC) / tl.maximum(count, 1))[:, None]
        delta = (first - origin[None, :]) + mean - mean_so_far
        mean_so_far += share * delta
        around_mean += tl.where(n > 0, within + count_before[:, None] * share * delta * delta, 0)
        block += n_splits * GROUP_BLOCK

    n_here = tl.sum(count, axis=0)
    mean_here = tl.sum(count[:, None] * mean_so_far, axis=0) / tl.maximum(n_here, 1)
    from_mean = mean_so_far - mean_here[None, :]
    total = tl.sum(around_mean + count[:, None] * from_mean * from_mean, axis=0)
    tl.store(means_ptr + split * n_features + column, mean_here, mask=inside)
    n_partial = n_splits * n_tiles
    mine = partial_ptr + split * n_tiles + tile
    tl.store(mine, tl.sum(tl.sum(weighted, axis=0), axis=0).to(tl.float64))
    tl.store(mine + n_partial, tl.sum(total, axis=0).to(tl.float64))
    tl.store(mine + 2 * n_partial, n_here.to(tl.float64))

    tl.debug_barrier()  # all threads have stored what the last program will read
    if tl.atomic_add(arrived_ptr, 1, sem="acq_rel") == n_partial - 1:
        tl.store(arrived_ptr, 0)
        _finish(
            means_ptr, partial_ptr, mean_offset_ptr, sums_ptr, loss_ptr, n_rows, n_features, n_splits, n_tiles, SPLITS
        )


@triton.jit
def _finish(
    means_ptr, partial_ptr, mean_offset_ptr, sums_ptr, loss_ptr, n_rows, n_features, n_splits, n_tiles,
    SPLITS: tl.constexpr,
):  # fmt: skip
    """Add up in a fixed order and in float64 what all programs have left, past the first-level cache."""
    BLOCK: tl.constexpr = 512
    n_partial = n_splits * n_tiles
    weighted = tl.zeros([BLOCK], dtype=tl.float64)
    total = tl.zeros([BLOCK], dtype=tl.float64)
    at = 0
    while at < n_partial:
        each = at + tl.arange(0, BLOCK)
        weighted += tl.load(partial_ptr + each, mask=each < n_partial, other=0, cache_modifier=".cg")
        total += tl.load(partial_ptr + n_partial + each, mask=each < n_partial, other=0, cache_modifier=".cg")
        at += BLOCK
    sum_of_squares = tl.sum(total, axis=0)
    if SPLITS > 1:  # the splits' samples around the mean of all, by Chan's formula
        COLUMNS: tl.constexpr = 1024 // SPLITS
        split = tl.arange(0, SPLITS)
        is_split = split < n_splits
        n = tl.load(partial_ptr + 2 * n_partial + split * n_tiles, mask=is_split, other=0, cache_modifier=".cg")[
            :, None
        ]
        around_mean = tl.zeros([SPLITS, COLUMNS], dtype=tl.float64)
        at = 0
        while at < n_features:
            column = at + tl.arange(0, COLUMNS)
            inside = column < n_features
            here = means_ptr + split[:, None] * n_features + column[None, :]
            mask = is_split[:, None] & inside[None, :]
            means = tl.load(here, mask=mask, other=0, cache_modifier=".cg").to(tl.float64)
            mean = tl.sum(n / n_rows * means, axis=0)
            around_mean += tl.where(mask, n * (means - mean[None, :]) * (means - mean[None, :]), 0)
            tl.store(mean_offset_ptr + column, mean.to(mean_offset_ptr.dtype.element_ty), mask=inside)
            at += COLUMNS
        sum_of_squares += tl.sum(tl.sum(around_mean, axis=0), axis=0)
    store_loss(tl.sum(weighted, axis=0), sum_of_squares, sums_ptr, loss_ptr)
