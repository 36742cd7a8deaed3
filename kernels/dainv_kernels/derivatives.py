"""Gradients as graphs of plain torch operations, for derivatives of them: slow, of any order."""

from __future__ import annotations

import torch
from torch import Tensor

from dainv_kernels.groups import Segments
from dainv_kernels.layout import accumulator_dtype


def loss_gradient(grad_loss: Tensor, features: Tensor, segments: Segments) -> Tensor:
    """The gradient of the loss: ``2 g / T * (weight_k (f_i - m_k) - L (f_i - m))``.

    Args:
        grad_loss: 0-d upstream gradient g.
        features: ``(B, ...)``.
        segments: the groups.

    Returns:
        Gradient in the shape and dtype of the features.
    """
    dtype = accumulator_dtype(features.dtype)
    group = segments.ids()
    sizes, weights = segments.bounds.diff(), segments.weights.to(dtype)
    x = features.flatten(1).to(dtype)
    x = x - x[:1].detach()
    means = torch.zeros_like(x).index_add(0, group, x) / sizes.clamp(min=1)[:, None]
    from_group_mean, from_batch_mean = x - means[group], x - x.mean(0)
    weight = weights[group][:, None]
    weighted, total = (from_group_mean.square() * weight).sum(), from_batch_mean.square().sum()
    constant = total < torch.finfo(dtype).tiny
    total = torch.where(constant, 1.0, total)
    scale = torch.where(constant, 0.0, 2 * grad_loss.to(dtype) / total)
    gradient = scale * (weight * from_group_mean - weighted / total * from_batch_mean)
    return gradient.to(features.dtype).reshape(features.shape)


def pairwise_gradient(grad_distances: Tensor, features: Tensor) -> Tensor:
    """The gradient of all distances of Eq. 1: ``2 / D * sum_j (G_ij + G_ji) (f_i - f_j)``.

    Args:
        grad_distances: ``(B, B)`` upstream gradient G.
        features: ``(B, ...)``.

    Returns:
        Gradient in the shape and dtype of the features.
    """
    symmetric = grad_distances + grad_distances.T
    x = features.flatten(1).to(grad_distances.dtype)
    x = x - x[:1].detach()  # the difference of two samples does not contain what they share
    gradient = (symmetric.sum(1, keepdim=True) * x - symmetric @ x) * (2 / x.shape[1])
    return gradient.to(features.dtype).reshape(features.shape)
