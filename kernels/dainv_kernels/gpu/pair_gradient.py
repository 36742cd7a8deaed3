"""The backward kernel by pairs: coefficients of groups or of a matrix times differences of samples."""

from __future__ import annotations

import triton
import triton.language as tl

from dainv_kernels.gpu.loss import load_sums
from dainv_kernels.gpu.pairs import group_of, share_of


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
        weighted, _, safe_total, scale = load_sums(sums_ptr, grad_loss_ptr)
        mean_loss = weighted / safe_total / n_rows
        group_i = group_of(group_ptr, sample_i, VIEWS)
        same = (scale * (share_of(bounds_ptr, weights_ptr, group_i) - mean_loss)).to(ACC)
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
