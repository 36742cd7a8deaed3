"""The closed form of Eq. 3 in Triton: one read of the features forward, one read and one write backward.

A program owns BLOCK_D columns and walks over all samples, GROUP_BLOCK groups side by side, one member of each at a
time. All arithmetic inside a group is private to a thread, so nothing is shuffled until the tile's two sums. Sums of
tiles meet in a second kernel in a fixed order: no atomics, the same bits every time. kernels/README.md derives it.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from dainv_kernels.backends import interpreted
from dainv_kernels.layout import accumulator_dtype


@triton.jit
def _members(order_ptr, bounds_ptr, group, n_groups, j, width, ORDERED: tl.constexpr):
    """Row of member j of each group; past the end of a group its first member again, whose difference is zero."""
    if ORDERED:  # consecutive groups of `width`
        inside = group < n_groups
        return (tl.where(inside, group, 0) * width + j).to(tl.int64)
    start = tl.load(bounds_ptr + group, mask=group < n_groups, other=0)
    stop = tl.load(bounds_ptr + group + 1, mask=group < n_groups, other=0)
    return tl.load(order_ptr + tl.where(start + j < stop, start + j, start))


@triton.jit
def _sizes(bounds_ptr, group, n_groups, width, ORDERED: tl.constexpr):
    """Number of members of each group, 0 past the last group."""
    if ORDERED:
        return tl.where(group < n_groups, width, 0)
    start = tl.load(bounds_ptr + group, mask=group < n_groups, other=0)
    stop = tl.load(bounds_ptr + group + 1, mask=group < n_groups, other=0)
    return (stop - start).to(tl.int32)


@triton.jit
def _load(x_ptr, rows, row_stride, column, inside, RELU: tl.constexpr, ACC: tl.constexpr):
    """A tile of features, or of their ReLU, in which NaN stays NaN."""
    x = tl.load(x_ptr + rows[:, None] * row_stride + column[None, :], mask=inside[None, :], other=0).to(ACC)
    return tl.where(x < 0, 0, x) if RELU else x


@triton.jit
def group_sums_kernel(
    x_ptr,  # [B, D], rows row_stride apart
    order_ptr,  # [B]
    bounds_ptr,  # [B + 1]
    n_groups_ptr,  # []
    weights_ptr,  # [B] float64
    mean_offset_ptr,  # [D] out: batch mean - first sample
    partial_ptr,  # [tiles, 2] float64 out: weighted within-group and total sum of squares of this tile
    activation_ptr,  # [B, D] out, contiguous, if RELU
    n_rows,
    n_features,
    row_stride,
    VIEWS: tl.constexpr,  # M, or 0 for groups of any size in any order
    RELU: tl.constexpr,  # write the ReLU of the features, and take the sums of that
    GROUP_BLOCK: tl.constexpr,
    BLOCK_D: tl.constexpr,
    ACC: tl.constexpr,
):
    """Sums of squares of one tile of columns, and the batch mean there."""
    tile = tl.program_id(0)
    column = tile.to(tl.int64) * BLOCK_D + tl.arange(0, BLOCK_D)
    inside = column < n_features
    origin = tl.load(x_ptr + column, mask=inside, other=0).to(ACC)
    origin = tl.where(origin < 0, 0, origin) if RELU else origin
    ORDERED: tl.constexpr = VIEWS > 0
    n_groups = n_rows // VIEWS if ORDERED else tl.load(n_groups_ptr)

    weighted = tl.zeros([GROUP_BLOCK, BLOCK_D], dtype=ACC)
    # Samples seen so far by each lane: their number, mean (as an offset from `origin`) and sum of squares around it.
    count = tl.zeros([GROUP_BLOCK], dtype=ACC)
    mean_so_far = tl.zeros([GROUP_BLOCK, BLOCK_D], dtype=ACC)
    around_mean = tl.zeros([GROUP_BLOCK, BLOCK_D], dtype=ACC)
    block = 0
    while block < n_groups:
        group = block + tl.arange(0, GROUP_BLOCK)
        size = _sizes(bounds_ptr, group, n_groups, VIEWS, ORDERED)
        rows = _members(order_ptr, bounds_ptr, group, n_groups, 0, VIEWS, ORDERED)
        first = _load(x_ptr, rows, row_stride, column, inside, RELU, ACC)
        if RELU:
            target = activation_ptr + rows[:, None] * n_features + column[None, :]
            tl.store(target, first.to(activation_ptr.dtype.element_ty), mask=inside[None, :] & (size > 0)[:, None])
        s1 = tl.zeros([GROUP_BLOCK, BLOCK_D], dtype=ACC)
        s2 = tl.zeros([GROUP_BLOCK, BLOCK_D], dtype=ACC)
        width = VIEWS if ORDERED else tl.max(size, axis=0)
        j = 1
        while j < width:
            rows = _members(order_ptr, bounds_ptr, group, n_groups, j, VIEWS, ORDERED)
            x = _load(x_ptr, rows, row_stride, column, inside, RELU, ACC)
            if RELU:
                target = activation_ptr + rows[:, None] * n_features + column[None, :]
                tl.store(target, x.to(activation_ptr.dtype.element_ty), mask=inside[None, :] & (j < size)[:, None])
            difference = x - first
            s1 += difference
            s2 += difference * difference
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
        block += GROUP_BLOCK

    mean_offset = tl.sum(count[:, None] * mean_so_far, axis=0) / n_rows
    from_mean = mean_so_far - mean_offset[None, :]
    total = tl.sum(around_mean + count[:, None] * from_mean * from_mean, axis=0)
    tl.store(mean_offset_ptr + column, mean_offset, mask=inside)
    tl.store(partial_ptr + 2 * tile, tl.sum(tl.sum(weighted, axis=0), axis=0).to(tl.float64))
    tl.store(partial_ptr + 2 * tile + 1, tl.sum(total, axis=0).to(tl.float64))


@triton.jit
def finish_kernel(
    partial_ptr,  # [tiles, 2]
    sums_ptr,  # [2] out
    loss_ptr,  # [] out
    n_tiles,
    BLOCK: tl.constexpr,
):
    """Add up the tiles in their order, in float64, and form the loss."""
    weighted = tl.zeros([BLOCK], dtype=tl.float64)
    total = tl.zeros([BLOCK], dtype=tl.float64)
    start = 0
    while start < n_tiles:
        tile = start + tl.arange(0, BLOCK)
        weighted += tl.load(partial_ptr + 2 * tile, mask=tile < n_tiles, other=0)
        total += tl.load(partial_ptr + 2 * tile + 1, mask=tile < n_tiles, other=0)
        start += BLOCK
    w = tl.sum(weighted, axis=0)
    t = tl.sum(total, axis=0)
    tl.store(sums_ptr, w)
    tl.store(sums_ptr + 1, t)
    loss = tl.where(t == 0, 0.0, w / tl.where(t == 0, 1.0, t))
    tl.store(loss_ptr, loss.to(loss_ptr.dtype.element_ty))


@triton.jit
def gradient_kernel(
    grad_loss_ptr,  # []
    x_ptr,  # [B, D], rows row_stride apart
    order_ptr,  # [B]
    bounds_ptr,  # [B + 1]
    n_groups_ptr,  # []
    weights_ptr,  # [B] float64
    sums_ptr,  # [2]
    mean_offset_ptr,  # [D]
    grad_ptr,  # [B, D] out, contiguous
    grad_activation_ptr,  # [B, D], rows grad_activation_stride apart, if RELU: upstream gradient of the activation x
    n_rows,
    n_features,
    row_stride,
    grad_activation_stride,
    VIEWS: tl.constexpr,
    RELU: tl.constexpr,  # add the upstream gradient and take both through the ReLU
    GROUP_BLOCK: tl.constexpr,
    BLOCK_D: tl.constexpr,
    ACC: tl.constexpr,
):
    """Gradient of one tile of columns for GROUP_BLOCK groups."""
    column = tl.program_id(0).to(tl.int64) * BLOCK_D + tl.arange(0, BLOCK_D)
    inside = column < n_features
    ORDERED: tl.constexpr = VIEWS > 0
    n_groups = n_rows // VIEWS if ORDERED else tl.load(n_groups_ptr)
    block = tl.program_id(1) * GROUP_BLOCK
    if block < n_groups:
        group = block + tl.arange(0, GROUP_BLOCK)
        size = _sizes(bounds_ptr, group, n_groups, VIEWS, ORDERED)
        origin = tl.load(x_ptr + column, mask=inside, other=0).to(ACC)
        rows = _members(order_ptr, bounds_ptr, group, n_groups, 0, VIEWS, ORDERED)
        first = _load(x_ptr, rows, row_stride, column, inside, False, ACC)
        s1 = tl.zeros([GROUP_BLOCK, BLOCK_D], dtype=ACC)
        width = VIEWS if ORDERED else tl.max(size, axis=0)
        j = 1
        while j < width:  # the group's mean; the second loop finds these rows in the cache
            rows = _members(order_ptr, bounds_ptr, group, n_groups, j, VIEWS, ORDERED)
            x = _load(x_ptr, rows, row_stride, column, inside, False, ACC)
            s1 += x - first
            j += 1

        weighted = tl.load(sums_ptr)
        total = tl.load(sums_ptr + 1)
        safe_total = tl.where(total == 0, 1.0, total)
        scale = tl.where(total == 0, 0.0, 2 * tl.load(grad_loss_ptr).to(tl.float64) / safe_total)
        loss = tl.where(total == 0, 0.0, weighted / safe_total)
        weight = tl.load(weights_ptr + group, mask=group < n_groups, other=0)
        slope = (scale * (weight - loss)).to(ACC)[:, None]
        mean_offset = tl.load(mean_offset_ptr + column, mask=inside, other=0)
        from_batch_mean = (first - origin[None, :]) - mean_offset[None, :]
        n = tl.maximum(size.to(ACC), 1)[:, None]
        constant = -(scale * weight).to(ACC)[:, None] * (s1 / n) - (scale * loss).to(ACC) * from_batch_mean
        j = 0
        while j < width:
            rows = _members(order_ptr, bounds_ptr, group, n_groups, j, VIEWS, ORDERED)
            x = _load(x_ptr, rows, row_stride, column, inside, False, ACC)
            gradient = slope * (x - first) + constant
            written = inside[None, :] & (j < size)[:, None]
            if RELU:
                upstream = grad_activation_ptr + rows[:, None] * grad_activation_stride + column[None, :]
                gradient += tl.load(upstream, mask=written, other=0).to(ACC)
                gradient = tl.where(x <= 0, 0, gradient)
            target = grad_ptr + rows[:, None] * n_features + column[None, :]
            tl.store(target, gradient.to(grad_ptr.dtype.element_ty), mask=written)
            j += 1


def _launch(rows: Tensor) -> dict[str, object]:
    """Tile sizes by shape alone: nothing is tuned at run time, so nothing can disturb a graph capture."""
    features = rows.shape[1]
    acc = tl.float64 if accumulator_dtype(rows.dtype) == torch.float64 else tl.float32
    if interpreted():  # a program costs about 10 ms whatever its width: few wide ones
        return {"GROUP_BLOCK": 8, "BLOCK_D": min(1024, triton.next_power_of_2(features)), "ACC": acc}
    # Narrow tiles on small layers give every multiprocessor of a large GPU two programs.
    return {"GROUP_BLOCK": 16, "BLOCK_D": 64 if features > 16384 else 32, "ACC": acc, "num_warps": 4}


def forward(
    rows: Tensor,
    order: Tensor,
    bounds: Tensor,
    n_groups: Tensor,
    weights: Tensor,
    views: int,
    activation: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """As :func:`dainv_kernels.closed_form.forward`, with the number of groups as a 0-d tensor on the device."""
    batch, features = rows.shape
    dtype = accumulator_dtype(rows.dtype)
    launch = _launch(rows)
    tiles = triton.cdiv(features, launch["BLOCK_D"])
    mean_offset = torch.empty(features, dtype=dtype, device=rows.device)
    partial = torch.empty(tiles, 2, dtype=torch.float64, device=rows.device)
    sums = torch.empty(2, dtype=torch.float64, device=rows.device)
    loss = torch.empty((), dtype=dtype, device=rows.device)
    with torch.cuda.device_of(rows):
        group_sums_kernel[(tiles,)](
            rows, order, bounds, n_groups, weights, mean_offset, partial, activation,
            batch, features, rows.stride(0), VIEWS=views, RELU=activation is not None, **launch,
        )  # fmt: skip
        finish_kernel[(1,)](partial, sums, loss, tiles, BLOCK=256)
    return loss, sums, mean_offset


def backward(
    grad_loss: Tensor,
    rows: Tensor,
    order: Tensor,
    bounds: Tensor,
    n_groups: Tensor,
    weights: Tensor,
    sums: Tensor,
    mean_offset: Tensor,
    views: int,
    grad_activation: Tensor | None = None,
) -> Tensor:
    """As :func:`dainv_kernels.closed_form.backward`, with the number of groups as a 0-d tensor on the device."""
    batch, features = rows.shape
    launch = _launch(rows)
    most_groups = batch // views if views else batch
    grid = (triton.cdiv(features, launch["BLOCK_D"]), triton.cdiv(most_groups, launch["GROUP_BLOCK"]))
    grad = torch.empty((batch, features), dtype=rows.dtype, device=rows.device)
    with torch.cuda.device_of(rows):
        gradient_kernel[grid](
            grad_loss, rows, order, bounds, n_groups, weights, sums, mean_offset, grad, grad_activation,
            batch, features, rows.stride(0), 0 if grad_activation is None else grad_activation.stride(0),
            VIEWS=views, RELU=grad_activation is not None, **launch,
        )  # fmt: skip
    return grad
