"""The truth that every backend is compared with: Eq. 1 and Eq. 3 over explicit pairs, in float64, by autograd.

Written from the paper and not from the package: nothing here imports it.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

_COLUMNS = 1024  # of (B, B, columns) differences held at a time


def _summed_squares(columns: Tensor) -> Tensor:
    return (columns[:, None, :] - columns[None, :, :]).square().sum(-1)


def pair_distances(features: Tensor) -> Tensor:
    """Eq. 1: d(i, j), the mean over features of the squared difference, for every i and j."""
    x = features.flatten(1)
    if x.shape[1] <= _COLUMNS:
        return _summed_squares(x) / x.shape[1]
    parts = (checkpoint(_summed_squares, columns, use_reentrant=False) for columns in x.split(_COLUMNS, dim=1))
    return sum(parts) / x.shape[1]


def true_loss(features: Tensor, ids: Tensor, normalization: str = "pairs") -> Tensor:
    """Eq. 3 of float64 features on the CPU.

    ``"pairs"``: mean of d over distinct same-group pairs / mean of d over distinct pairs of the batch.
    ``"printed"``: sum_k 1/n_k^2 sum_{i,j in S_k} d / (1/B^2 sum_{i,j} d), the pairs (i, i) counted.
    """
    d = pair_distances(features)
    batch = len(ids)
    same_group = ids[:, None] == ids[None, :]
    distinct = ~torch.eye(batch, dtype=torch.bool)
    if normalization == "pairs":
        same_pairs = same_group & distinct
        numerator = d[same_pairs].mean() if same_pairs.any() else d.sum() * 0
        denominator = d[distinct].mean()
    else:
        numerator = torch.zeros((), dtype=d.dtype)
        for group in ids.unique():
            members = (ids == group).nonzero().flatten()
            numerator = numerator + d[members][:, members].sum() / len(members) ** 2
        denominator = d.sum() / batch**2
    return numerator * 0 if denominator == 0 else numerator / denominator


def truth(features: Tensor, ids: Tensor, normalization: str = "pairs", upstream: float = 1.0) -> tuple[Tensor, Tensor]:
    """Loss of the features as rounded to their dtype, and upstream times its gradient; both float64 on the CPU."""
    x = features.detach().cpu().to(torch.float64).contiguous().requires_grad_()
    loss = true_loss(x, ids.cpu(), normalization)
    (gradient,) = torch.autograd.grad(loss * upstream, x)
    return loss.detach(), gradient
