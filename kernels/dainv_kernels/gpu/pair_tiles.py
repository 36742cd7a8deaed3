"""The forward kernels by pairs: tiles of squared distances between samples, the groups as a mask on them.

A program owns one tile of pairs and some columns. It adds up the squares of differences in registers, one accumulator
for each pair and each of BLOCK_D columns, so that no thread needs another before the last column. The difference of two
samples does not contain their mean, so nothing has to be centred, and equal samples are exactly 0 apart. Programs write
their sums to places of their own and other kernels add them in a fixed order: no atomics, the same bits every time.
"""

from __future__ import annotations

import triton
import triton.language as tl

from dainv_kernels.gpu.loss import store_loss
from dainv_kernels.gpu.pairs import blocks_of_pair, group_of, share_of


@triton.jit
def pair_tiles_kernel(
    x_ptr,  # [B, D], rows row_stride apart
    group_ptr,  # [B] group of each sample, unless VIEWS
    bounds_ptr,  # [B + 1]
    weights_ptr,  # [B] float64
    partial_ptr,  # [splits, pairs of blocks, 2] float64 out if SUMS: weighted within-group and total sum of squares
    tiles_ptr,  # [splits, pairs of blocks, BLOCK, BLOCK] out if MATRIX: squared distances over this program's columns
    n_rows,
    n_features,
    row_stride,
    columns,  # of a program, a multiple of BLOCK_D
    VIEWS: tl.constexpr,  # M, or 0 for groups of any size in any order
    SUMS: tl.constexpr,
    MATRIX: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCK_D: tl.constexpr,
    ACC: tl.constexpr,
):
    """Squared distances of BLOCK samples from BLOCK others over some of the columns, and their masked sums."""
    # Tiles are neighbours in the grid and splits are not: programs that run together want the same columns.
    block_i, block_j = blocks_of_pair(tl.program_id(0), tl.cdiv(n_rows, BLOCK))
    program = tl.program_id(1).to(tl.int64) * tl.num_programs(0) + tl.program_id(0)
    i = block_i * BLOCK + tl.arange(0, BLOCK)
    j = block_j * BLOCK + tl.arange(0, BLOCK)
    # Past the last sample the last one again, so that loads need no mask in this direction.
    sample_i = tl.minimum(i, n_rows - 1)
    sample_j = tl.minimum(j, n_rows - 1)
    row_i = x_ptr + sample_i.to(tl.int64)[:, None] * row_stride
    row_j = x_ptr + sample_j.to(tl.int64)[:, None] * row_stride

    squares = tl.zeros([BLOCK, BLOCK, BLOCK_D], dtype=ACC)
    start = tl.program_id(1).to(tl.int64) * columns
    stop = tl.minimum(start + columns, n_features)
    while start < stop:
        column = start + tl.arange(0, BLOCK_D)[None, :]
        x_i = tl.load(row_i + column, mask=column < stop, other=0).to(ACC)
        x_j = tl.load(row_j + column, mask=column < stop, other=0).to(ACC)
        difference = x_i[:, None, :] - x_j[None, :, :]
        squares += difference * difference
        start += BLOCK_D
    distance = tl.sum(squares, axis=2)

    if MATRIX:
        within = tl.arange(0, BLOCK)[:, None] * BLOCK + tl.arange(0, BLOCK)[None, :]
        tl.store(tiles_ptr + program * BLOCK * BLOCK + within, distance)
    if SUMS:
        # A sample is paired with itself too: 0, but NaN if it is infinite, when its other distances are infinite and
        # a finite sum over them would be a loss of 0.
        counted = (i[:, None] <= j[None, :]) & (j < n_rows)[None, :]
        summed = tl.where(counted, distance.to(tl.float64), 0)
        group_i = group_of(group_ptr, sample_i, VIEWS)
        group_j = group_of(group_ptr, sample_j, VIEWS)
        share = share_of(bounds_ptr, weights_ptr, group_i)
        weighted = tl.where(group_i[:, None] == group_j[None, :], share[:, None] * summed, 0)
        tl.store(partial_ptr + 2 * program, tl.sum(tl.sum(weighted, axis=1), axis=0))
        tl.store(partial_ptr + 2 * program + 1, tl.sum(tl.sum(summed, axis=1), axis=0) / n_rows)


@triton.jit
def pair_sums_kernel(
    partial_ptr,  # [programs, 2]
    sums_ptr,  # [2] float64 out
    loss_ptr,  # [] out
    n_programs,
    BLOCK: tl.constexpr,
):
    """Add up what the programs found, in their order, and form the loss."""
    weighted = tl.zeros([BLOCK], dtype=tl.float64)
    total = tl.zeros([BLOCK], dtype=tl.float64)
    start = 0
    while start < n_programs:
        program = start + tl.arange(0, BLOCK)
        weighted += tl.load(partial_ptr + 2 * program, mask=program < n_programs, other=0)
        total += tl.load(partial_ptr + 2 * program + 1, mask=program < n_programs, other=0)
        start += BLOCK
    store_loss(tl.sum(weighted, axis=0), tl.sum(total, axis=0), sums_ptr, loss_ptr)


@triton.jit
def matrix_kernel(
    tiles_ptr,  # [splits, pairs of blocks, BLOCK, BLOCK]
    distances_ptr,  # [B, B] out
    n_rows,
    n_features,
    n_splits,
    BLOCK: tl.constexpr,
):
    """Add up one tile over the columns and write it twice, mirrored: symmetric whatever rounding did."""
    pair = tl.program_id(0).to(tl.int64)
    block_i, block_j = blocks_of_pair(pair, tl.cdiv(n_rows, BLOCK))
    within = tl.arange(0, BLOCK)[:, None] * BLOCK + tl.arange(0, BLOCK)[None, :]
    total = tl.zeros([BLOCK, BLOCK], dtype=tl.float64)
    split = 0
    while split < n_splits:
        total += tl.load(tiles_ptr + pair * BLOCK * BLOCK + within)
        pair += tl.num_programs(0)
        split += 1
    distance = (total / n_features).to(distances_ptr.dtype.element_ty)
    i = (block_i * BLOCK + tl.arange(0, BLOCK))[:, None]
    j = (block_j * BLOCK + tl.arange(0, BLOCK))[None, :]
    tl.store(distances_ptr + i * n_rows + j, distance, mask=(i <= j) & (j < n_rows))
    tl.store(distances_ptr + j * n_rows + i, distance, mask=(i < j) & (j < n_rows))
