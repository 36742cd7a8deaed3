"""How a batch of features lies in memory: as rows, one a sample, without a copy wherever that is possible."""

from __future__ import annotations

import torch
from torch import Tensor


def accumulator_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype sums are kept in: float64 for float64, float32 for everything narrower."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def sample_rows(features: Tensor) -> Tensor:
    """View features ``(B, ...)`` as rows ``(B, D)`` whose elements lie side by side in memory.

    Squared distances do not care for the order of the features, so the order of storage is taken: a channels_last
    tensor is viewed, not permuted. Rows may be any distance apart (a slice of a batch, padded rows); only samples
    that are not dense in themselves are copied. Both are differentiable.

    Args:
        features: ``(B, ...)`` floating-point tensor.

    Returns:
        ``(B, D)`` tensor with element stride 1.

    Raises:
        TypeError: features is not a dense floating-point tensor.
        ValueError: features has fewer than two dimensions or no element.
    """
    check_features(features)
    return copied_rows(features, features)


def check_features(features: Tensor) -> None:
    """Refuse what has no samples and features; see :func:`sample_rows` for the errors."""
    if not isinstance(features, Tensor) or not features.is_floating_point():
        kind = f"a {features.dtype} tensor" if isinstance(features, Tensor) else type(features).__name__
        raise TypeError(f"features: expected a floating-point tensor of shape (B, ...), got {kind}")
    if features.layout != torch.strided:
        raise TypeError(f"features: expected a dense tensor, got one of layout {features.layout}; use to_dense()")
    if features.ndim < 2:
        raise ValueError(f"features: expected shape (B, ...) with two or more dimensions, got {tuple(features.shape)}")
    if features.numel() == 0:
        raise ValueError(f"features: expected at least one element, got shape {tuple(features.shape)}")


def rows_like(tensor: Tensor, features: Tensor) -> Tensor | None:
    """View a tensor of the features' shape as rows, in the order in which the features are stored.

    Args:
        tensor: ``(B, ...)``, of the shape of the features: their gradient, their activation, or themselves.
        features: whose order of storage is taken.

    Returns:
        ``(B, D)`` view with element stride 1; None where the tensor's samples are not dense in that order.
    """
    permuted = _permuted(tensor, features)
    expected = 1
    for size, stride in zip(reversed(permuted.shape[1:]), reversed(permuted.stride()[1:]), strict=True):
        if size != 1 and stride != expected:
            return None
        expected *= size
    return permuted.flatten(1)


def writable_rows(tensor: Tensor, features: Tensor) -> Tensor | None:
    """View as :func:`rows_like`, to write to; None also where rows overlap, which torch refuses to copy into."""
    rows = rows_like(tensor, features)
    overlap = rows is not None and len(rows) > 1 and rows.stride(0) < rows.shape[1]
    return None if overlap else rows


def copied_rows(tensor: Tensor, features: Tensor) -> Tensor:
    """Rows as :func:`rows_like`, in memory of their own where a view will not do."""
    rows = rows_like(tensor, features)
    return _permuted(tensor, features).flatten(1).contiguous() if rows is None else rows


def write_rows(rows: Tensor, target: Tensor, features: Tensor) -> None:
    """Copy rows ``(B, D)`` in the order of the features into a tensor of the features' shape."""
    view = _permuted(target, features)
    view.copy_(rows.view(view.shape))


def channel_of_column(features: Tensor) -> tuple[int, int]:
    """Where the channels of features ``(B, C, ...)`` are in a row: that of column d is ``d // inner % C``.

    Returns:
        ``(inner, C)``.
    """
    order = _by_stride(features)
    inner = 1
    for dim in order[order.index(1) + 1 :]:
        inner *= features.shape[dim]
    return inner, features.shape[1]


def _by_stride(features: Tensor) -> list[int]:
    """Dimensions other than the batch, the widest stride first."""
    return sorted(range(1, features.ndim), key=features.stride, reverse=True)


def _permuted(tensor: Tensor, features: Tensor) -> Tensor:
    return tensor.permute(0, *_by_stride(features))
