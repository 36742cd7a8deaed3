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
    that are not dense in themselves are copied. The view is differentiable, so gradients come back in the input's
    layout.

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
    if features.ndim == 2:
        return features if features.stride(1) == 1 else features.contiguous()
    by_stride = sorted(range(1, features.ndim), key=features.stride, reverse=True)
    return features.permute(0, *by_stride).reshape(features.shape[0], -1)
