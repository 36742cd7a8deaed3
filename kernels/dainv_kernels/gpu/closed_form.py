"""The closed form of Eq. 3 in Triton: one read of the features forward, one read and one write backward."""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from dainv_kernels.gpu.group_gradient import gradient_kernel
from dainv_kernels.gpu.group_sums import group_sums_kernel
from dainv_kernels.gpu.launch import launch, row_stride
from dainv_kernels.gpu.tiles import backward_grid, backward_tile, forward_grid, forward_tile
from dainv_kernels.groups import Segments
from dainv_kernels.implementation import Gradient, Relu, Sums
from dainv_kernels.layout import accumulator_dtype


def forward(rows: Tensor, segments: Segments, relu: Relu | None = None) -> Sums:
    """As :meth:`dainv_kernels.implementation.Implementation.forward`."""
    batch, features = rows.shape
    tile = forward_tile(features, rows.dtype, segments.views)
    tiles, splits = forward_grid(tile, batch, features, segments.views)
    activation, bias, inner, n_channels = relu or (None, None, 1, 1)
    mean_offset = torch.empty(features, dtype=accumulator_dtype(rows.dtype), device=rows.device)
    means = mean_offset.new_empty(splits, features) if splits > 1 else mean_offset
    partial = torch.empty(3, splits, tiles, dtype=torch.float64, device=rows.device)
    sums, loss = partial.new_empty(2), mean_offset.new_empty(())
    in_place = activation is not None and activation.data_ptr() == rows.data_ptr()
    first = rows[0].clone() if in_place and splits > 1 else rows[0]  # one split writes over what the others need
    launch(
        group_sums_kernel, (tiles, splits), rows, first, bias, segments.rows, segments.bounds, segments.n_groups,
        segments.weights, activation, means, partial, segments.arrived, mean_offset, sums, loss, batch, features,
        row_stride(rows), row_stride(activation), inner, n_channels, RELU=relu is not None, BIAS=bias is not None,
        SPLITS=triton.next_power_of_2(splits),
        **tile.constants(features, rows.dtype, segments.views),
    )  # fmt: skip
    return Sums(loss, sums, mean_offset)


def backward(rows: Tensor, segments: Segments, sums: Tensor, mean_offset: Tensor, gradient: Gradient) -> None:
    """As :meth:`dainv_kernels.implementation.Implementation.backward`."""
    batch, features = rows.shape
    tile = backward_tile(features, rows.dtype, segments.views)
    launch(
        gradient_kernel, backward_grid(tile, batch, features, segments.views), gradient.of_loss, rows, segments.rows,
        segments.bounds, segments.n_groups, segments.weights, sums, mean_offset, gradient.upstream, gradient.out,
        batch, features, row_stride(rows), row_stride(gradient.upstream), row_stride(gradient.out),
        UPSTREAM=gradient.upstream is not None, RELU=gradient.relu,
        **tile.constants(features, rows.dtype, segments.views),
    )  # fmt: skip
