"""The backward kernel of the closed form: one read of the features from memory, one write of the gradient.

A gradient from elsewhere is added and the sum is taken through a ReLU where there is one, in the same pass.
kernels/README.md derives it.
"""

from __future__ import annotations

import triton
import triton.language as tl

from dainv_kernels.gpu.loss import load_sums
from dainv_kernels.gpu.members import from_first, load_members, rows_of, starts_and_sizes


@triton.jit
def _write(
    x, first, slope, constant, upstream_ptr, grad_ptr, order_ptr, start, size, j, column, inside, upstream_stride,
    grad_stride, VIEWS: tl.constexpr, UPSTREAM: tl.constexpr, RELU: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Gradient of member j of each group."""
    rows = rows_of(order_ptr, start, size, j, VIEWS)
    here = (j < size)[:, None] & inside[None, :]
    gradient = slope * (x - first) + constant
    if UPSTREAM:
        gradient += tl.load(upstream_ptr + rows * upstream_stride + column[None, :], mask=here, other=0).to(ACC)
    if RELU:
        gradient = tl.where(x <= 0, 0, gradient)
    tl.store(grad_ptr + rows * grad_stride + column[None, :], gradient.to(grad_ptr.dtype.element_ty), mask=here)


@triton.jit
def gradient_kernel(
    grad_loss_ptr,  # []
    x_ptr,  # [B, D], rows row_stride apart
    order_ptr,  # [B]
    bounds_ptr,  # [B + 1]
    n_groups_ptr,  # []
    weights_ptr,  # [B] float64
    sums_ptr,  # [2] float64
    mean_offset_ptr,  # [D]
    upstream_ptr,  # [B, D], rows upstream_stride apart, if UPSTREAM; may be grad_ptr
    grad_ptr,  # [B, D] out, rows grad_stride apart
    n_rows,
    n_features,
    row_stride,
    upstream_stride,
    grad_stride,
    VIEWS: tl.constexpr,
    UPSTREAM: tl.constexpr,  # add a gradient from elsewhere
    RELU: tl.constexpr,  # the features are the output of a ReLU: take the sum through it
    UNROLLED: tl.constexpr,
    GROUP_BLOCK: tl.constexpr,
    BLOCK_D: tl.constexpr,
    ACC: tl.constexpr,
):
    """Gradient of one tile of columns for GROUP_BLOCK groups."""
    column = tl.program_id(0).to(tl.int64) * BLOCK_D + tl.arange(0, BLOCK_D)
    inside = column < n_features
    n_groups = n_rows // VIEWS if VIEWS > 0 else tl.load(n_groups_ptr)
    block = tl.program_id(1) * GROUP_BLOCK
    if block < n_groups:
        group = block + tl.arange(0, GROUP_BLOCK)
        start, size = starts_and_sizes(bounds_ptr, group, n_groups, VIEWS)
        origin = tl.load(x_ptr + column, mask=inside, other=0).to(ACC)
        first = load_members(x_ptr, order_ptr, start, size, 0, column, inside, row_stride, VIEWS, ACC)
        s1 = tl.zeros([GROUP_BLOCK, BLOCK_D], dtype=ACC)
        members = (first,)
        if UNROLLED:  # kept in registers: every feature is read once
            for j in tl.static_range(1, VIEWS):
                x = load_members(x_ptr, order_ptr, start, size, j, column, inside, row_stride, VIEWS, ACC)
                s1 += x - first
                members = members + (x,)  # type: ignore[assignment]  # noqa: RUF005 - the compiler knows no unpacking
        else:
            longest = tl.max(size, axis=0)
            j = 1
            while j < longest:
                x = load_members(x_ptr, order_ptr, start, size, j, column, inside, row_stride, VIEWS, ACC)
                s1 += from_first(x, first, size, j, VIEWS)
                j += 1

        weighted, total, safe_total, scale = load_sums(sums_ptr, grad_loss_ptr)
        loss = tl.where(total == 0, 0.0, weighted / safe_total)
        weight = tl.load(weights_ptr + group, mask=group < n_groups, other=0)
        slope = (scale * (weight - loss)).to(ACC)[:, None]
        mean_offset = tl.load(mean_offset_ptr + column, mask=inside, other=0)
        from_batch_mean = (first - origin[None, :]) - mean_offset[None, :]
        n = tl.maximum(size.to(ACC), 1)[:, None]
        constant = -(scale * weight).to(ACC)[:, None] * (s1 / n) - (scale * loss).to(ACC) * from_batch_mean
        if UNROLLED:
            for j in tl.static_range(VIEWS):
                _write(
                    members[j], first, slope, constant, upstream_ptr, grad_ptr, order_ptr, start, size, j, column,
                    inside, upstream_stride, grad_stride, VIEWS, UPSTREAM, RELU, ACC,
                )  # fmt: skip
        else:
            j = 0
            while j < longest:  # these rows are in the cache by now
                x = load_members(x_ptr, order_ptr, start, size, j, column, inside, row_stride, VIEWS, ACC)
                _write(
                    x, first, slope, constant, upstream_ptr, grad_ptr, order_ptr, start, size, j, column, inside,
                    upstream_stride, grad_stride, VIEWS, UPSTREAM, RELU, ACC,
                )  # fmt: skip
                j += 1
