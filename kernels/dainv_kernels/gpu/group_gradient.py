"""The backward kernel of the closed form: one read of the features from memory, one write of the gradient.

A gradient from elsewhere is added and the sum is taken through a ReLU where there is one, in the same pass.
kernels/README.md derives it.
"""

from __future__ import annotations

import triton
import triton.language as tl

from dainv_kernels.gpu.loss import load_sums
from dainv_kernels.gpu.members import from_first, load_members, rows_of, starts_and_sizes, there


@triton.jit
def _write(
    members, upstream, rows, first, slope, constant, grad_ptr, grad_stride, size, j, column, inside,
    UPSTREAM: tl.constexpr, RELU: tl.constexpr, AHEAD: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Gradient of the members from j on of each group."""
    for i in tl.static_range(AHEAD):
        x = members[i].to(ACC)
        gradient = slope * (x - first) + constant
        if UPSTREAM:
            gradient += upstream[i].to(ACC)
        if RELU:
            gradient = tl.where(x <= 0, 0, gradient)
        target = grad_ptr + rows[i] * grad_stride + column[None, :]
        tl.store(target, gradient.to(grad_ptr.dtype.element_ty), mask=there(size, j + i, inside))


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
    AHEAD: tl.constexpr,  # members that are asked for at a time; M where that is not too many
    GROUP_BLOCK: tl.constexpr,
    BLOCK_D: tl.constexpr,
    ACC: tl.constexpr,
):
    """Gradient of one tile of columns for some blocks of GROUP_BLOCK groups."""
    column = tl.program_id(0).to(tl.int64) * BLOCK_D + tl.arange(0, BLOCK_D)
    inside = column < n_features
    n_groups = n_rows // VIEWS if VIEWS > 0 else tl.load(n_groups_ptr)
    block = tl.program_id(1) * GROUP_BLOCK
    while block < n_groups:
        group = block + tl.arange(0, GROUP_BLOCK)
        start, size = starts_and_sizes(bounds_ptr, group, n_groups, VIEWS)
        rows = rows_of(order_ptr, start, size, 0, VIEWS, AHEAD)
        members = load_members(x_ptr, rows, row_stride, size, 0, column, inside, AHEAD)
        upstream = members
        if UPSTREAM and VIEWS == AHEAD:
            upstream = load_members(upstream_ptr, rows, upstream_stride, size, 0, column, inside, AHEAD)
        origin = tl.load(x_ptr + column, mask=inside, other=0).to(ACC)
        mean_offset = tl.load(mean_offset_ptr + column, mask=inside, other=0)
        weighted, total, safe_total, scale = load_sums(sums_ptr, grad_loss_ptr)
        weight = tl.load(weights_ptr + group, mask=group < n_groups, other=0)

        first = members[0].to(ACC)
        s1 = tl.zeros([GROUP_BLOCK, BLOCK_D], dtype=ACC)
        for i in tl.static_range(1, AHEAD):
            s1 += from_first(members[i].to(ACC), first, size, i, VIEWS, AHEAD)
        if VIEWS != AHEAD:
            longest = tl.max(size, axis=0)
            j = AHEAD
            while j < longest:
                more = load_members(
                    x_ptr, rows_of(order_ptr, start, size, j, VIEWS, AHEAD), row_stride, size, j, column, inside, AHEAD
                )
                for i in tl.static_range(AHEAD):
                    s1 += from_first(more[i].to(ACC), first, size, j + i, VIEWS, AHEAD)
                j += AHEAD

        loss = tl.where(total == 0, 0.0, weighted / safe_total)
        slope = (scale * (weight - loss)).to(ACC)[:, None]
        from_batch_mean = (first - origin[None, :]) - mean_offset[None, :]
        n = tl.maximum(size.to(ACC), 1)[:, None]
        constant = -(scale * weight).to(ACC)[:, None] * (s1 / n) - (scale * loss).to(ACC) * from_batch_mean
        if VIEWS == AHEAD:
            _write(
                members, upstream, rows, first, slope, constant, grad_ptr, grad_stride, size, 0, column, inside,
                UPSTREAM, RELU, AHEAD, ACC,
            )  # fmt: skip
        else:
            j = 0
            while j < longest:  # these rows are in the cache by now
                rows = rows_of(order_ptr, start, size, j, VIEWS, AHEAD)
                members = load_members(x_ptr, rows, row_stride, size, j, column, inside, AHEAD)
                if UPSTREAM:
                    upstream = load_members(upstream_ptr, rows, upstream_stride, size, j, column, inside, AHEAD)
                _write(
                    members, upstream, rows, first, slope, constant, grad_ptr, grad_stride, size, j, column, inside,
                    UPSTREAM, RELU, AHEAD, ACC,
                )  # fmt: skip
                j += AHEAD
        block += tl.num_programs(1) * GROUP_BLOCK
