"""Eq. 1 and Eq. 3 in Triton by their letter; kernels/README.md says when this pays against the closed form."""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from dainv_kernels.backends import interpreted
from dainv_kernels.gpu.launch import accumulator, launch, row_stride
from dainv_kernels.gpu.pair_gradient import pair_gradient_kernel
from dainv_kernels.gpu.pair_tiles import matrix_kernel, pair_sums_kernel, pair_tiles_kernel
from dainv_kernels.groups import Segments
from dainv_kernels.implementation import Gradient, Relu, Sums, activate
from dainv_kernels.layout import accumulator_dtype

# Splitting the columns stops at this many programs: a GPU of 132 multiprocessors runs some 500 at a time, and tiles of
# the matrix that wait to be added up take 1 MiB at most, or where B is large half of the matrix itself.
_PROGRAMS = 1024
_STEPS = 8  # blocks of columns below which a program would spend its time on adding up its accumulators
_UNROLL = 2  # samples that the gradient asks for at a time; with more, some variants spill


def _tile(rows: Tensor, block: int, block_d: int, **options: int) -> dict[str, Any]:
    return {"BLOCK": block, "BLOCK_D": block_d, "ACC": accumulator(rows.dtype), **options}


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
    tile = _pair_launch(rows)
    block = tile["BLOCK"]
    n_blocks = triton.cdiv(batch, block)
    n_pairs = n_blocks * (n_blocks + 1) // 2
    n_splits, columns = _splits(n_pairs, features, tile["BLOCK_D"])
    partial = torch.empty(n_splits * n_pairs, 2, dtype=torch.float64, device=rows.device)
    tiles = None
    if distances is not None:
        tiles = torch.empty(n_splits * n_pairs, block, block, dtype=distances.dtype, device=rows.device)
    launch(
        pair_tiles_kernel, (n_pairs, n_splits), rows, *_group_arguments(segments), partial, tiles, batch, features,
        row_stride(rows), columns, VIEWS=0 if segments is None else segments.views, SUMS=segments is not None,
        MATRIX=distances is not None, **tile,
    )  # fmt: skip
    if distances is not None:
        launch(matrix_kernel, (n_pairs,), tiles, distances, batch, features, n_splits, BLOCK=block)
    return partial


def forward(rows: Tensor, segments: Segments, relu: Relu | None = None, distances: Tensor | None = None) -> Sums:
    """As :meth:`dainv_kernels.implementation.Implementation.forward`; a ReLU is torch's and a pass of its own.

    Args:
        rows: see there.
        segments: see there.
        relu: see there.
        distances: ``(B, B)``, written if given, from the same differences: :func:`pairwise_mse` of the rows.

    Returns:
        As there; an empty tensor in place of the batch mean, which pairs do not need.
    """
    if relu is not None:
        activate(rows, relu.bias_of_columns(), relu.activation)
        rows = relu.activation
    sums = torch.empty(2, dtype=torch.float64, device=rows.device)
    loss = torch.empty((), dtype=accumulator_dtype(rows.dtype), device=rows.device)
    partial = _pair_tiles(rows, segments, distances)
    launch(pair_sums_kernel, (1,), partial, sums, loss, len(partial), BLOCK=1024)
    return Sums(loss, sums, loss.new_empty(0))


def backward(rows: Tensor, segments: Segments, sums: Tensor, mean_offset: Tensor, gradient: Gradient) -> None:
    """Gradient of the loss: ``2 g / T * sum_j (same_ij weight_k / n_k - L / B) (f_i - f_j)``.

    See :meth:`dainv_kernels.implementation.Implementation.backward`; the batch mean is not needed.
    """
    grad_loss, out, upstream, relu = gradient
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
    tile = _gradient_launch(rows)
    programs = triton.cdiv(batch, tile["BLOCK"]) * triton.cdiv(features, tile["BLOCK_D"])
    launch(
        pair_gradient_kernel, (programs,), grad_loss, coefficients, rows, *_group_arguments(segments), sums, upstream,
        out, batch, features, row_stride(rows), row_stride(upstream), row_stride(out),
        VIEWS=0 if segments is None else segments.views, MATRIX=coefficients is not None,
        UPSTREAM=upstream is not None, RELU=relu, UNROLL=_UNROLL, **tile,
    )  # fmt: skip
