"""The forward kernel of the closed form: one read of the features, sums of squares around means, the loss.

With RELU it reads pre-activations, writes the activation on the way and takes the sums of that. The program that
finishes last adds up what all have left, in a fixed order: no float is added atomically, so the same input gives the
same bits. kernels/README.md derives it.
"""

from __future__ import annotations

import triton
import triton.language as tl

from dainv_kernels.gpu.loss import store_loss
from dainv_kernels.gpu.members import from_first, rows_of, starts_and_sizes


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
def _read(
    x_ptr, bias, activation_ptr, order_ptr, start, size, j, column, inside, row_stride, activation_stride,
    VIEWS: tl.constexpr, RELU: tl.constexpr, BIAS: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Member j of each group, 0 where it has none; its activation is written on the way."""
    rows = rows_of(order_ptr, start, size, j, VIEWS)
    here = (j < size)[:, None] & inside[None, :]
    x = tl.load(x_ptr + rows * row_stride + column[None, :], mask=here, other=0)
    x = _activated(x, bias, BIAS, RELU, x_ptr.dtype.element_ty, ACC)
    if RELU:
        target = activation_ptr + rows * activation_stride + column[None, :]
        tl.store(target, x.to(activation_ptr.dtype.element_ty), mask=here)
    return x


@triton.jit
def _add_member(
    s1, s2, first, x_ptr, bias, activation_ptr, order_ptr, start, size, j, column, inside, row_stride,
    activation_stride, VIEWS: tl.constexpr, RELU: tl.constexpr, BIAS: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Both sums of a group with its member j: of differences from the first member, and of their squares."""
    x = _read(
        x_ptr, bias, activation_ptr, order_ptr, start, size, j, column, inside, row_stride, activation_stride,
        VIEWS, RELU, BIAS, ACC,
    )  # fmt: skip
    difference = from_first(x, first, size, j, VIEWS)
    return s1 + difference, s2 + difference * difference


@triton.jit
def group_sums_kernel(
    x_ptr,  # [B, D], rows row_stride apart
    bias_ptr,  # [C], if BIAS: added to the features of column d is number d // inner % C
    order_ptr,  # [B]
    bounds_ptr,  # [B + 1]
    n_groups_ptr,  # []
    weights_ptr,  # [B] float64
    activation_ptr,  # [B, D] out, rows activation_stride apart, if RELU
    means_ptr,  # [splits, D] out: mean of a split's samples - first sample of the batch
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
    UNROLLED: tl.constexpr,
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
    origin = tl.load(x_ptr + column, mask=inside, other=0)
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
        first = _read(
            x_ptr, bias, activation_ptr, order_ptr, start, size, 0, column, inside, row_stride, activation_stride,
            VIEWS, RELU, BIAS, ACC,
        )  # fmt: skip
        s1 = tl.zeros([GROUP_BLOCK, BLOCK_D], dtype=ACC)
        s2 = tl.zeros([GROUP_BLOCK, BLOCK_D], dtype=ACC)
        if UNROLLED:
            for j in tl.static_range(1, VIEWS):
                s1, s2 = _add_member(
                    s1, s2, first, x_ptr, bias, activation_ptr, order_ptr, start, size, j, column, inside, row_stride,
                    activation_stride, VIEWS, RELU, BIAS, ACC,
                )  # fmt: skip
        else:
            longest = tl.max(size, axis=0)
            j = 1
            while j < longest:
                s1, s2 = _add_member(
                    s1, s2, first, x_ptr, bias, activation_ptr, order_ptr, start, size, j, column, inside, row_stride,
                    activation_stride, VIEWS, RELU, BIAS, ACC,
                )  # fmt: skip
                j += 1
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
    tl.store((means_ptr if n_splits > 1 else mean_offset_ptr) + split * n_features + column, mean_here, mask=inside)
    n_partial = n_splits * n_tiles
    mine = partial_ptr + split * n_tiles + tile
    tl.store(mine, tl.sum(tl.sum(weighted, axis=0), axis=0).to(tl.float64))
    tl.store(mine + n_partial, tl.sum(total, axis=0).to(tl.float64))
    tl.store(mine + 2 * n_partial, n_here.to(tl.float64))

    tl.debug_barrier()  # all threads have stored what the last program will read
    if tl.atomic_add(arrived_ptr, 1, sem="acq_rel") == n_partial - 1:
        tl.store(arrived_ptr, 0)
        _finish(means_ptr, partial_ptr, mean_offset_ptr, sums_ptr, loss_ptr, n_rows, n_features, n_splits, n_tiles)


@triton.jit
def _finish(means_ptr, partial_ptr, mean_offset_ptr, sums_ptr, loss_ptr, n_rows, n_features, n_splits, n_tiles):
    """Add up in a fixed order and in float64 what all programs have left, past the first-level cache."""
    BLOCK: tl.constexpr = 256
    n_partial = n_splits * n_tiles
    weighted = tl.zeros([BLOCK], dtype=tl.float64)
    total = tl.zeros([BLOCK], dtype=tl.float64)
    at = 0
    while at < n_partial:
        each = at + tl.arange(0, BLOCK)
        weighted += tl.load(partial_ptr + each, mask=each < n_partial, other=0, cache_modifier=".cg")
        total += tl.load(partial_ptr + n_partial + each, mask=each < n_partial, other=0, cache_modifier=".cg")
        at += BLOCK
    if n_splits > 1:  # the splits' samples around the mean of all, by Chan's formula
        at = 0
        while at < n_features:
            column = at + tl.arange(0, BLOCK)
            inside = column < n_features
            mean = tl.zeros([BLOCK], dtype=tl.float64)
            split = 0
            while split < n_splits:
                n = tl.load(partial_ptr + 2 * n_partial + split * n_tiles, cache_modifier=".cg")
                here = means_ptr + split.to(tl.int64) * n_features + column
                mean += n / n_rows * tl.load(here, mask=inside, other=0, cache_modifier=".cg").to(tl.float64)
                split += 1
            split = 0
            while split < n_splits:
                n = tl.load(partial_ptr + 2 * n_partial + split * n_tiles, cache_modifier=".cg")
                here = means_ptr + split.to(tl.int64) * n_features + column
                offset = tl.load(here, mask=inside, other=0, cache_modifier=".cg").to(tl.float64) - mean
                total += tl.where(inside, n * offset * offset, 0)
                split += 1
            tl.store(mean_offset_ptr + column, mean.to(mean_offset_ptr.dtype.element_ty), mask=inside)
            at += BLOCK
    store_loss(tl.sum(weighted, axis=0), tl.sum(total, axis=0), sums_ptr, loss_ptr)
