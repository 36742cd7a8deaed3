"""Eq. 1 and Eq. 3 in Triton by their letter: tiles of squared distances between samples, the groups as a mask on them.

A program owns one tile of pairs and some columns. It adds up the squares of differences in registers, one accumulator
for each pair and each of BLOCK_D columns, so that no thread needs another before the last column. The difference of two
samples does not contain their mean, so nothing has to be centred, and equal samples are exactly 0 apart. Programs write
their sums to places of their own and a second kernel adds them in a fixed order: no atomics, the same bits every time.
kernels/README.md says when this pays against the closed form.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from dainv_kernels.backends import interpreted
from dainv_kernels.groups import Segments
from dainv_kernels.layout import accumulator_dtype

# Splitting the columns stops at this many programs: a GPU of 132 multiprocessors runs some 500 at a time, and tiles of
# the matrix that wait to be added up take 1 MiB at most, or where B is large half of the matrix itself.
_PROGRAMS = 1024
_STEPS = 8  # blocks of columns below which a program would spend its time on adding up its accumulators
_UNROLL = 2  # samples that the gradient asks for at a time; with more, some variants spill


@triton.jit
def _blocks_of_pair(pair, n_blocks):
    """Row and column, in blocks, of one of the n (n + 1) / 2 tiles on and above the diagonal.

    Row r of the triangle and row n - 1 - r have n + 1 tiles together: folded into one, they make a rectangle, which
    integers can divide without a square root that rounds.
    """
    row = pair // (n_blocks + 1)
    column = pair % (n_blocks + 1)
    folded = column >= n_blocks - row
    return tl.where(folded, n_blocks - 1 - row, row), tl.where(folded, column - 1, row + column)


@triton.jit
def _group_of(group_ptr, sample, VIEWS: tl.constexpr):
    """Group of each sample; 32 bits hold it, and are compared twice as fast as 64."""
    return sample // VIEWS if VIEWS > 0 else tl.load(group_ptr + sample).to(tl.int32)


@triton.jit
def _share(bounds_ptr, weights_ptr, group):
    """weight_k / n_k: what a squared distance within group k adds to the weighted sum."""
    size = tl.load(bounds_ptr + group + 1) - tl.load(bounds_ptr + group)
    return tl.load(weights_ptr + group) / size


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
    block_i, block_j = _blocks_of_pair(tl.program_id(0), tl.cdiv(n_rows, BLOCK))
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
        group_i = _group_of(group_ptr, sample_i, VIEWS)
        group_j = _group_of(group_ptr, sample_j, VIEWS)
        share = _share(bounds_ptr, weights_ptr, group_i)
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
    w = tl.sum(weighted, axis=0)
    t = tl.sum(total, axis=0)
    tl.store(sums_ptr, w)
    tl.store(sums_ptr + 1, t)
    loss = tl.where(t == 0, 0.0, w / tl.where(t == 0, 1.0, t))
    tl.store(loss_ptr, loss.to(loss_ptr.dtype.element_ty))


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
    block_i, block_j = _blocks_of_pair(pair, tl.cdiv(n_rows, BLOCK))
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


@triton.jit
def pair_gradient_kernel(
    grad_loss_ptr,  # [], unless MATRIX
    coefficients_ptr,  # [B, B], symmetric, if MATRIX
    x_ptr,  # [B, D], rows row_stride apart
    group_ptr,  # [B] group of each sample, unless VIEWS or MATRIX
    bounds_ptr,  # [B + 1], unless MATRIX
    weights_ptr,  # [B] float64, unless MATRIX
    sums_ptr,  # [2], unless MATRIX
    upstream_ptr,  # [B, D], rows upstream_stride apart, if UPSTREAM; may be grad_ptr
    grad_ptr,  # [B, D] out, rows grad_stride apart
    n_rows,
    n_features,
    row_stride,
    upstream_stride,
    grad_stride,
    VIEWS: tl.constexpr,
    MATRIX: tl.constexpr,  # coefficients of pairs come from a matrix, not from groups
    UPSTREAM: tl.constexpr,  # add a gradient from elsewhere
    RELU: tl.constexpr,  # the features are the output of a ReLU: take the sum through it
    BLOCK: tl.constexpr,
    BLOCK_D: tl.constexpr,
    UNROLL: tl.constexpr,  # samples whose features are asked for before the first of them is used
    ACC: tl.constexpr,
):
    """Sum over all samples j of c_ij (f_i - f_j), for BLOCK samples i and one tile of columns."""
    # Blocks of samples are neighbours in the grid: programs that run together want the same columns of all samples.
    n_blocks = tl.cdiv(n_rows, BLOCK)
    block = tl.program_id(0) % n_blocks
    column = (tl.program_id(0) // n_blocks).to(tl.int64) * BLOCK_D + tl.arange(0, BLOCK_D)
    inside = column < n_features
    i = block * BLOCK + tl.arange(0, BLOCK)
    sample_i = tl.minimum(i, n_rows - 1)
    row_i = x_ptr + sample_i.to(tl.int64)[:, None] * row_stride
    x_i = tl.load(row_i + column[None, :], mask=inside[None, :], other=0).to(ACC)

    if not MATRIX:
        weighted = tl.load(sums_ptr)
        total = tl.load(sums_ptr + 1)
        safe_total = tl.where(total == 0, 1.0, total)
        scale = tl.where(total == 0, 0.0, 2 * tl.load(grad_loss_ptr).to(tl.float64) / safe_total)
        mean_loss = weighted / safe_total / n_rows
        group_i = _group_of(group_ptr, sample_i, VIEWS)
        same = (scale * (_share(bounds_ptr, weights_ptr, group_i) - mean_loss)).to(ACC)
        other = (-scale * mean_loss).to(ACC)

    gradient = tl.zeros([BLOCK, BLOCK_D], dtype=ACC)
    first = 0
    while first < n_rows:
        for ahead in tl.static_range(UNROLL):
            j = first + ahead
            there = j < n_rows  # past the last sample c_ij is 0
            row_of_j = tl.cast(j, tl.int64)
            # A vector compared with a scalar that may be 0: the interpreter has no vector masked by a scalar.
            x_j = tl.load(x_ptr + row_of_j * row_stride + column, mask=column < tl.where(there, n_features, 0), other=0)
            if MATRIX:
                in_matrix = sample_i < tl.where(there, n_rows, 0)
                c = tl.load(coefficients_ptr + row_of_j * n_rows + sample_i, mask=in_matrix, other=0)
            else:
                group_j = j // VIEWS if VIEWS > 0 else tl.load(group_ptr + j, mask=there, other=-1).to(tl.int32)
                c = tl.where(group_i == group_j, same, tl.where(there, other, 0))
            gradient += c[:, None] * (x_i - x_j.to(ACC)[None, :])
        first += UNROLL
    here = inside[None, :] & (i < n_rows)[:, None]
    to = i.to(tl.int64)[:, None]
    if UPSTREAM:
        gradient += tl.load(upstream_ptr + to * upstream_stride + column[None, :], mask=here, other=0).to(ACC)
    if RELU:
        gradient = tl.where(x_i <= 0, 0, gradient)
    tl.store(grad_ptr + to * grad_stride + column[None, :], gradient.to(grad_ptr.dtype.element_ty), mask=here)


def _tile(rows: Tensor, block: int, block_d: int, **options: int) -> dict[str, Any]:
    double = accumulator_dtype(rows.dtype) == torch.float64
    return {"BLOCK": block, "BLOCK_D": block_d, "ACC": tl.float64 if double else tl.float32, **options}


def _pair_launch(rows: Tensor) -> dict[str, Any]:
    """Tile of pairs and columns by shape alone: nothing is tuned at run time."""
    batch, features = rows.shape
    if interpreted():  # a program costs about 10 ms whatever it holds: few large ones
        return _tile(rows, min(64, triton.next_power_of_2(batch)), min(64, triton.next_power_of_2(features)))
    # The columns of one line of the cache, and warps for 64 accumulators of 4 bytes, or 32 of 8, in each thread.
    columns = 128 // rows.element_size()
    return _tile(rows, 16, columns, num_warps=8 if columns == 64 else 4)


def _gradient_launch(rows: Tensor) -> dict[str, Any]:
    """Tile of the gradient, likewise."""
    batch, features = rows.shape
    if interpreted():
        block, columns = min(128, triton.next_power_of_2(batch)), min(1024, triton.next_power_of_2(features))
        return _tile(rows, block, columns)
    # 16 features of 4 bytes and their gradient in each thread; twice that spills where rows are not aligned.
    return _tile(rows, 32 if rows.dtype == torch.float64 else 64, 64, num_warps=8)


def _splits(n_pairs: int, features: int, block_d: int) -> tuple[int, int]:
    """Into how many parts the columns are split, and how many columns a part has."""
    steps = triton.cdiv(features, block_d)
    wanted = max(1, min(_PROGRAMS // n_pairs, steps // _STEPS))
    steps_each = triton.cdiv(steps, wanted)
    return triton.cdiv(steps, steps_each), steps_each * block_d


def _group_arguments(segments: Segments | None) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Groups of the samples, where they do not follow from their places in the batch, with bounds and weights."""
    if segments is None:
        return None, None, None
    return None if segments.views else segments.ids(), segments.bounds, segments.weights


def _pair_tiles(rows: Tensor, segments: Segments | None, distances: Tensor | None) -> Tensor:
    """The partial sums, written if there are groups, and the matrix, if there is room for it."""
    batch, features = rows.shape
    launch = _pair_launch(rows)
    block = launch["BLOCK"]
    n_blocks = triton.cdiv(batch, block)
    n_pairs = n_blocks * (n_blocks + 1) // 2
    n_splits, columns = _splits(n_pairs, features, launch["BLOCK_D"])
    partial = torch.empty(n_splits * n_pairs, 2, dtype=torch.float64, device=rows.device)
    tiles = None
    if distances is not None:
        tiles = torch.empty(n_splits * n_pairs, block, block, dtype=distances.dtype, device=rows.device)
    with torch.cuda.device_of(rows):
        pair_tiles_kernel[(n_pairs, n_splits)](
            rows, *_group_arguments(segments), partial, tiles, batch, features, rows.stride(0), columns,
            VIEWS=0 if segments is None else segments.views, SUMS=segments is not None, MATRIX=distances is not None,
            **launch,
        )  # fmt: skip
        if distances is not None:
            matrix_kernel[(n_pairs,)](tiles, distances, batch, features, n_splits, BLOCK=block)
    return partial


def forward(
    rows: Tensor,
    segments: Segments,
    activation: Tensor | None = None,
    bias: Tensor | None = None,
    inner: int = 1,
    n_channels: int = 1,
    distances: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """As :func:`dainv_kernels.closed_form.forward`; the ReLU, if there is one, is torch's and a pass of its own.

    Args:
        rows: ``(B, D)`` features; element stride 1.
        segments: the groups.
        activation: see :func:`dainv_kernels.closed_form.forward`.
        bias: see there.
        inner: see there.
        n_channels: see there.
        distances: ``(B, B)``, written if given, from the same differences: :func:`pairwise_mse` of the rows.

    Returns:
        The 0-d loss; ``(2,)`` float64 weighted within-group and total sums of squares; an empty tensor in place of
        the batch mean, which pairs do not need.
    """
    if activation is not None:
        if bias is not None:
            channel = torch.arange(rows.shape[1], device=rows.device) // inner % n_channels
            rows = torch.add(rows, bias[channel], out=activation)
        rows = torch.clamp_min(rows, 0, out=activation)
    dtype = accumulator_dtype(rows.dtype)
    sums = torch.empty(2, dtype=torch.float64, device=rows.device)
    loss = torch.empty((), dtype=dtype, device=rows.device)
    partial = _pair_tiles(rows, segments, distances)
    with torch.cuda.device_of(rows):
        pair_sums_kernel[(1,)](partial, sums, loss, len(partial), BLOCK=1024)
    return loss, sums, torch.empty(0, dtype=dtype, device=rows.device)


def _gradient(
    rows: Tensor,
    out: Tensor,
    segments: Segments | None = None,
    sums: Tensor | None = None,
    grad_loss: Tensor | None = None,
    coefficients: Tensor | None = None,
    upstream: Tensor | None = None,
    relu: bool = False,
) -> None:
    """Write the gradient of the rows, with the coefficients c_ij of groups or of a matrix."""
    batch, features = rows.shape
    launch = _gradient_launch(rows)
    programs = triton.cdiv(batch, launch["BLOCK"]) * triton.cdiv(features, launch["BLOCK_D"])
    with torch.cuda.device_of(rows):
        pair_gradient_kernel[(programs,)](
            grad_loss, coefficients, rows, *_group_arguments(segments), sums, upstream, out, batch, features,
            rows.stride(0), 0 if upstream is None else upstream.stride(0), out.stride(0),
            VIEWS=0 if segments is None else segments.views, MATRIX=coefficients is not None,
            UPSTREAM=upstream is not None, RELU=relu, UNROLL=_UNROLL, **launch,
        )  # fmt: skip


def backward(
    grad_loss: Tensor,
    rows: Tensor,
    segments: Segments,
    sums: Tensor,
    mean_offset: Tensor,
    out: Tensor,
    upstream: Tensor | None = None,
    relu: bool = False,
) -> None:
    """Gradient of the loss: ``2 g / T * sum_j (same_ij weight_k / n_k - L / B) (f_i - f_j)``.

    Args:
        grad_loss: 0-d upstream gradient g.
        rows: as in :func:`forward`.
        segments: as in :func:`forward`.
        sums: from :func:`forward`.
        mean_offset: unused and empty, from :func:`forward`.
        out: see :func:`dainv_kernels.closed_form.backward`.
        upstream: see there.
        relu: see there.
    """
    _gradient(rows, out, segments, sums, grad_loss, upstream=upstream, relu=relu)


def pairwise_mse(rows: Tensor) -> Tensor:
    """Eq. 1 for all pairs of rows.

    Args:
        rows: ``(B, D)`` features; element stride 1.

    Returns:
        ``(B, B)`` mean squared differences, float32 (float64 for float64 features); exactly symmetric, diagonal 0.
    """
    distances = torch.empty((len(rows), len(rows)), dtype=accumulator_dtype(rows.dtype), device=rows.device)
    _pair_tiles(rows, None, distances)
    return distances


def pairwise_mse_backward(grad_distances: Tensor, rows: Tensor) -> Tensor:
    """Gradient of the rows from that of :func:`pairwise_mse`: ``2 / D * sum_j (G_ij + G_ji) (f_i - f_j)``.

    Args:
        grad_distances: ``(B, B)`` upstream gradient G, symmetric or not.
        rows: as in :func:`pairwise_mse`.

    Returns:
        ``(B, D)`` gradient in the dtype of the features.
    """
    grad_distances = grad_distances.to(accumulator_dtype(rows.dtype))
    coefficients = ((grad_distances + grad_distances.T) * (2 / rows.shape[1])).contiguous()
    grad = torch.empty(rows.shape, dtype=rows.dtype, device=rows.device)
    _gradient(rows, grad, coefficients=coefficients)
    return grad
