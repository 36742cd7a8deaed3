"""The closed form of Eq. 3 in Triton: one read of the features forward, one read and one write backward.

A program owns BLOCK_D columns and walks over the samples, GROUP_BLOCK groups side by side, one member of each at a
time. All arithmetic inside a group is private to a thread, so nothing is shuffled until the tile's two sums. The
program that finishes last adds up the sums of all, in a fixed order: no float is added atomically, so the same input
gives the same bits. kernels/README.md derives it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from dainv_kernels.backends import interpreted
from dainv_kernels.groups import Segments
from dainv_kernels.layout import accumulator_dtype

# Consecutive groups of up to so many members are unrolled: all their loads are under way before the first is used.
_UNROLLED = 16


@triton.jit
def _groups(bounds_ptr, group, n_groups, VIEWS: tl.constexpr):
    """Where each group starts in the row order, and its number of members: 0 past the last group."""
    if VIEWS > 0:
        return group.to(tl.int64) * VIEWS, tl.where(group < n_groups, VIEWS, 0)
    start = tl.load(bounds_ptr + group, mask=group < n_groups, other=0)
    stop = tl.load(bounds_ptr + group + 1, mask=group < n_groups, other=0)
    return start, (stop - start).to(tl.int32)


@triton.jit
def _row(order_ptr, start, size, j, VIEWS: tl.constexpr):
    """Row of member j of each group that has one."""
    if VIEWS > 0:
        return start + j
    return tl.load(order_ptr + start + j, mask=j < size, other=0)


@triton.jit
def _biased(x, bias, BIAS: tl.constexpr, RELU: tl.constexpr, STORED: tl.constexpr, ACC: tl.constexpr):
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
    rows = _row(order_ptr, start, size, j, VIEWS)[:, None]
    here = (j < size)[:, None] & inside[None, :]
    x = tl.load(x_ptr + rows * row_stride + column[None, :], mask=here, other=0)
    x = _biased(x, bias, BIAS, RELU, x_ptr.dtype.element_ty, ACC)
    if RELU:
        target = activation_ptr + rows * activation_stride + column[None, :]
        tl.store(target, x.to(activation_ptr.dtype.element_ty), mask=here)
    return x


@triton.jit
def _shifted(x, first, size, j, VIEWS: tl.constexpr):
    """Difference from the group's first member, 0 where there is no member j."""
    difference = x - first
    return difference if VIEWS > 0 else tl.where((j < size)[:, None], difference, 0)


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
    origin = _biased(origin, bias, BIAS, RELU, x_ptr.dtype.element_ty, ACC)
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
        start, size = _groups(bounds_ptr, group, n_groups, VIEWS)
        first = _read(
            x_ptr, bias, activation_ptr, order_ptr, start, size, 0, column, inside, row_stride, activation_stride,
            VIEWS, RELU, BIAS, ACC,
        )  # fmt: skip
        s1 = tl.zeros([GROUP_BLOCK, BLOCK_D], dtype=ACC)
        s2 = tl.zeros([GROUP_BLOCK, BLOCK_D], dtype=ACC)
        if UNROLLED:
            for j in tl.static_range(1, VIEWS):
                x = _read(
                    x_ptr, bias, activation_ptr, order_ptr, start, size, j, column, inside, row_stride,
                    activation_stride, VIEWS, RELU, BIAS, ACC,
                )  # fmt: skip
                difference = _shifted(x, first, size, j, VIEWS)
                s1 += difference
                s2 += difference * difference
        else:
            longest = tl.max(size, axis=0)
            j = 1
            while j < longest:
                x = _read(
                    x_ptr, bias, activation_ptr, order_ptr, start, size, j, column, inside, row_stride,
                    activation_stride, VIEWS, RELU, BIAS, ACC,
                )  # fmt: skip
                difference = _shifted(x, first, size, j, VIEWS)
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
    w = tl.sum(weighted, axis=0)
    t = tl.sum(total, axis=0)
    tl.store(sums_ptr, w)
    tl.store(sums_ptr + 1, t)
    loss = tl.where(t == 0, 0.0, w / tl.where(t == 0, 1.0, t))
    tl.store(loss_ptr, loss.to(loss_ptr.dtype.element_ty))


@triton.jit
def _write_gradient(
    x, first, slope, constant, upstream_ptr, grad_ptr, order_ptr, start, size, j, column, inside, upstream_stride,
    grad_stride, VIEWS: tl.constexpr, UPSTREAM: tl.constexpr, RELU: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Gradient of member j of each group."""
    rows = _row(order_ptr, start, size, j, VIEWS)[:, None]
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
        start, size = _groups(bounds_ptr, group, n_groups, VIEWS)
        origin = tl.load(x_ptr + column, mask=inside, other=0).to(ACC)
        first = _read(
            x_ptr, 0.0, x_ptr, order_ptr, start, size, 0, column, inside, row_stride, 0, VIEWS, False, False, ACC
        )
        s1 = tl.zeros([GROUP_BLOCK, BLOCK_D], dtype=ACC)
        members = (first,)
        if UNROLLED:  # kept in registers: every feature is read once
            for j in tl.static_range(1, VIEWS):
                x = _read(
                    x_ptr, 0.0, x_ptr, order_ptr, start, size, j, column, inside, row_stride, 0, VIEWS, False, False,
                    ACC,
                )  # fmt: skip
                s1 += x - first
                members = members + (x,)  # type: ignore[assignment]  # noqa: RUF005 - the compiler knows no unpacking
        else:
            longest = tl.max(size, axis=0)
            j = 1
            while j < longest:
                x = _read(
                    x_ptr, 0.0, x_ptr, order_ptr, start, size, j, column, inside, row_stride, 0, VIEWS, False, False,
                    ACC,
                )  # fmt: skip
                s1 += _shifted(x, first, size, j, VIEWS)
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
        if UNROLLED:
            for j in tl.static_range(VIEWS):
                _write_gradient(
                    members[j], first, slope, constant, upstream_ptr, grad_ptr, order_ptr, start, size, j, column,
                    inside, upstream_stride, grad_stride, VIEWS, UPSTREAM, RELU, ACC,
                )  # fmt: skip
        else:
            j = 0
            while j < longest:  # these rows are in the cache by now
                x = _read(
                    x_ptr, 0.0, x_ptr, order_ptr, start, size, j, column, inside, row_stride, 0, VIEWS, False, False,
                    ACC,
                )  # fmt: skip
                _write_gradient(
                    x, first, slope, constant, upstream_ptr, grad_ptr, order_ptr, start, size, j, column, inside,
                    upstream_stride, grad_stride, VIEWS, UPSTREAM, RELU, ACC,
                )  # fmt: skip
                j += 1


class Launch(NamedTuple):
    """Shape of a launch.

    Attributes:
        group_block: groups side by side in a program.
        block_d: columns of a program.
        num_warps: warps of a program.
    """

    group_block: int
    block_d: int
    num_warps: int

    def constants(self, features: int, dtype: torch.dtype, views: int) -> dict[str, object]:
        """Compile-time arguments of both kernels that do not depend on what is asked for."""
        return {
            "VIEWS": views,
            "UNROLLED": _unrolled(features, views),
            "GROUP_BLOCK": self.group_block,
            "BLOCK_D": self.block_d,
            "ACC": tl.float64 if accumulator_dtype(dtype) == torch.float64 else tl.float32,
            "num_warps": self.num_warps,
        }


def _unrolled(features: int, views: int) -> bool:
    """Not where rows do not start at multiples of 16 bytes: so many narrow loads would not fit into the registers."""
    return 0 < views <= _UNROLLED and (features % 16 == 0 or interpreted())


# A large GPU is busy with two programs on each of its 132 multiprocessors.
_PROGRAMS = 264


def launch_forward(features: int, dtype: torch.dtype, views: int) -> Launch:
    """Tile of the forward pass, by shape alone: nothing is tuned at run time, nothing can disturb a graph capture.

    A thread loads 16 bytes of a row at a time, the widest load there is, and a row's part of a tile is at least 128
    bytes, a line of the cache. Layers with few features get tiles half as wide, so that there are programs enough;
    where more than eight members are unrolled, half as many groups, and one load of a member in each thread, leave the
    registers to hold them.
    """
    if interpreted():  # a program costs about 10 ms whatever its width: few wide ones
        return Launch(8, min(1024, triton.next_power_of_2(features)), 4)
    narrow = features <= 16384
    if dtype.itemsize == 2:
        launch = Launch(8, 64, 2) if narrow else Launch(8, 128, 4)
    elif dtype.itemsize == 8:
        launch = Launch(16, 16, 4) if narrow else Launch(16, 32, 4)
    else:
        launch = Launch(16, 32, 4) if narrow else Launch(16, 64, 4)
    if views > 8 and _unrolled(features, views):
        groups = launch.group_block // 2
        return Launch(groups, launch.block_d, groups * launch.block_d * dtype.itemsize // 512)
    return launch


def launch_backward(features: int, dtype: torch.dtype, views: int) -> Launch:
    """Tile of the backward pass: it holds all members of eight groups in registers, so it is half as high."""
    if interpreted():
        return launch_forward(features, dtype, views)
    if views > 8 and _unrolled(features, views):
        return Launch(4, 256 // dtype.itemsize, 2)
    return Launch(8, 256 // dtype.itemsize, 4)


def splits(batch: int, features: int, views: int, launch: Launch) -> int:
    """Into how many parts the groups of the forward pass are split: more than one for small D and large B."""
    most_groups = batch // views if views else batch
    tiles = triton.cdiv(features, launch.block_d)
    return max(1, min(_PROGRAMS // tiles, triton.cdiv(most_groups, launch.group_block)))


def forward(
    rows: Tensor,
    segments: Segments,
    activation: Tensor | None = None,
    bias: Tensor | None = None,
    inner: int = 1,
    n_channels: int = 1,
) -> tuple[Tensor, Tensor, Tensor]:
    """As :func:`dainv_kernels.closed_form.forward`."""
    batch, features = rows.shape
    dtype = accumulator_dtype(rows.dtype)
    launch = launch_forward(features, rows.dtype, segments.views)
    grid = (triton.cdiv(features, launch.block_d), splits(batch, features, segments.views, launch))
    mean_offset = torch.empty(features, dtype=dtype, device=rows.device)
    means = mean_offset.new_empty(grid[1], features) if grid[1] > 1 else mean_offset
    partial = torch.empty(3, grid[1], grid[0], dtype=torch.float64, device=rows.device)
    sums = partial.new_empty(2)
    loss = mean_offset.new_empty(())
    with torch.cuda.device_of(rows):
        group_sums_kernel[grid](
            rows, bias, segments.rows, segments.bounds, segments.n_groups, segments.weights, activation, means,
            partial, segments.arrived, mean_offset, sums, loss, batch, features, rows.stride(0),
            0 if activation is None else activation.stride(0), inner, n_channels, RELU=activation is not None,
            BIAS=bias is not None, **launch.constants(features, rows.dtype, segments.views),
        )  # fmt: skip
    return loss, sums, mean_offset


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
    """As :func:`dainv_kernels.closed_form.backward`."""
    batch, features = rows.shape
    launch = launch_backward(features, rows.dtype, segments.views)
    most_groups = batch // segments.views if segments.views else batch
    grid = (triton.cdiv(features, launch.block_d), triton.cdiv(most_groups, launch.group_block))
    with torch.cuda.device_of(rows):
        gradient_kernel[grid](
            grad_loss, rows, segments.rows, segments.bounds, segments.n_groups, segments.weights, sums, mean_offset,
            upstream, out, batch, features, rows.stride(0), 0 if upstream is None else upstream.stride(0),
            out.stride(0), UPSTREAM=upstream is not None, RELU=relu,
            **launch.constants(features, rows.dtype, segments.views),
        )  # fmt: skip
