"""How a batch of features lies in memory: as rows, one a sample, without a copy wherever that is possible."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def accumulator_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype sums are kept in: float64 for float64, float32 for everything narrower."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def sample_rows(features: Tensor) -> Tensor:
    """View features ``(B, ...)`` as rows ``(B, D)`` whose elements lie side by side in memory.

    Squared distances do not care for the order of the features, so the order of storage is taken: a channels_last
    tensor is viewed, not permuted. Rows may be any distance apart (a slice of a batch, padded rows); only samples
    that are not dense in themselves are copied. Both are differentiable, and gradients come back in the layout of the
    features.

    Args:
        features: ``(B, ...)`` floating-point tensor.

    Returns:
        ``(B, D)`` tensor with element stride 1.

    Raises:
        TypeError: features is not a floating-point tensor.
        ValueError: features has fewer than two dimensions or no element.
    """
    if not isinstance(features, Tensor) or not features.is_floating_point():
        kind = f"a {features.dtype} tensor" if isinstance(features, Tensor) else type(features).__name__
        raise TypeError(f"features: expected a floating-point tensor of shape (B, ...), got {kind}")
    if features.ndim < 2:
        raise ValueError(f"features: expected shape (B, ...) with two or more dimensions, got {tuple(features.shape)}")
    if features.numel() == 0:
        raise ValueError(f"features: expected at least one element, got shape {tuple(features.shape)}")
    rows: Tensor = _as_rows(features) if _samples_are_dense(features) else _CopiedRows.apply(features)
    return rows


def as_features(rows: Tensor, like: Tensor) -> Tensor:
    """View rows ``(B, D)`` in the shape and order of storage of the features they were taken from."""
    return _reshaped(rows, like.shape, _by_stride(like))


def _reshaped(rows: Tensor, shape: torch.Size, order: list[int]) -> Tensor:
    back = [0, *(1 + order.index(dim) for dim in range(1, len(shape)))]
    return rows.reshape(shape[0], *(shape[dim] for dim in order)).permute(back)


def _by_stride(features: Tensor) -> list[int]:
    """Dimensions other than the batch, the widest stride first."""
    return sorted(range(1, features.ndim), key=features.stride, reverse=True)


def _as_rows(features: Tensor) -> Tensor:
    return features.permute(0, *_by_stride(features)).reshape(features.shape[0], -1)


def _samples_are_dense(features: Tensor) -> bool:
    expected = 1
    for dim in reversed(_by_stride(features)):
        if features.shape[dim] != 1 and features.stride(dim) != expected:
            return False
        expected *= features.shape[dim]
    return True


class _CopiedRows(torch.autograd.Function):
    """Rows of samples that are not dense, whose gradient still lies in memory as the features do."""

    @staticmethod
    def forward(ctx: Any, features: Tensor) -> Tensor:
        ctx.order = _by_stride(features)
        ctx.like = torch.empty_like(features, device="meta")  # its strides; dense ones if some of them overlap
        return _as_rows(features).contiguous()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        grad = _reshaped(grads[0], ctx.like.shape, ctx.order)
        return torch.empty_strided(grad.shape, ctx.like.stride(), dtype=grad.dtype, device=grad.device).copy_(grad)
