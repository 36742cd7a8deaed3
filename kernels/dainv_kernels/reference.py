"""The truth: Eq. 1 and Eq. 3 over explicit pairs, as printed, in plain torch. Slow on purpose, clear on purpose."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from dainv_kernels.function import OneBatch
from dainv_kernels.groups import NORMALIZATIONS
from dainv_kernels.layout import accumulator_dtype

_PAIR_ELEMENTS = 1 << 24  # (B, B, columns) differences held at a time, so that memory stays bounded in D


def _differences(rows: Tensor) -> Iterator[Tensor]:
    """``(B, B, columns)`` differences of all pairs, a few columns at a time."""
    for columns in rows.split(max(1, _PAIR_ELEMENTS // len(rows) ** 2), dim=1):
        yield columns[:, None] - columns[None, :]


class _SquaredDistances(OneBatch):
    """Of all pairs; by hand only so that the (B, B, D) differences are never kept for the backward pass."""

    @staticmethod
    def forward(rows: Tensor) -> Tensor:
        distances = rows.new_zeros(len(rows), len(rows))
        for difference in _differences(rows):
            distances = distances + difference.square().sum(-1)  # in place, torch 2.11 compiles a gradient of 0
        return distances

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (rows,) = ctx.saved_tensors
        symmetric = grads[0] + grads[0].T
        columns = [(symmetric[:, :, None] * difference).sum(1) for difference in _differences(rows)]
        return 2 * torch.cat(columns, dim=1)


def _squared_distances(rows: Tensor) -> Tensor:
    """``(B, B)``, the sum over features of the squared difference of every two rows."""
    distances: Tensor = _SquaredDistances.apply(rows.to(accumulator_dtype(rows.dtype)))
    return distances


def pairwise_mse(rows: Tensor) -> Tensor:
    """Eq. 1 for all pairs of rows ``(B, D)``; see :func:`dainv_kernels.pairwise_mse`."""
    return _squared_distances(rows) / rows.shape[1]


def invariance_loss(rows: Tensor, ids: Tensor, normalization: str) -> Tensor:
    """Eq. 3 by pairs and masks.

    Args:
        rows: ``(B, D)`` features.
        ids: ``(B,)`` group of each sample.
        normalization: ``"pairs"`` (means over distinct pairs) or ``"printed"`` (the equation as printed).

    Returns:
        0-d loss; 0 where no group has a pair or all samples are equal, up to squares that are no normal numbers.
    """
    squares = _squared_distances(rows)
    distances = squares.double()  # d without the 1 / D of Eq. 1, which cancels
    batch = len(ids)
    same_group = (ids[:, None] == ids[None, :]).double()
    if normalization == "pairs":
        distinct = 1 - torch.eye(batch, dtype=torch.float64, device=rows.device)
        same_pairs = (same_group * distinct).sum()
        numerator = (same_group * distances).sum() / same_pairs.clamp(min=1)
        denominator = distances.sum() / distinct.sum()
    elif normalization == "printed":
        size_of_own_group = same_group.sum(1)
        numerator = (same_group * distances / size_of_own_group[:, None] ** 2).sum()
        denominator = distances.sum() / batch**2
    else:
        raise ValueError(f"normalization: expected one of {NORMALIZATIONS}, got {normalization!r}")
    total = distances.sum() / (2 * batch)  # T, the sum of squares around the batch mean
    no_structure = total < torch.finfo(squares.dtype).tiny  # a dead or constant layer; NaN passes through
    loss = torch.where(no_structure, numerator * 0, numerator / torch.where(no_structure, 1, denominator))
    return loss.to(squares.dtype)
