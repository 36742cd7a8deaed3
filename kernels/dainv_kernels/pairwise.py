"""Eq. 1 for all pairs by the Triton kernels: as a torch operator, which compilers know, and differentiable."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dainv_kernels.derivatives import pairwise_gradient
from dainv_kernels.function import OneBatch
from dainv_kernels.layout import accumulator_dtype, copied_rows, write_rows


def pairwise_mse(features: Tensor) -> Tensor:
    """``(B, B)`` distances of features ``(B, ...)``, differentiable."""
    call = operator if torch.compiler.is_compiling() else _PairwiseMSE.apply
    distances: Tensor = call(features)
    return distances


@torch.library.custom_op("dainv::pairwise_mse", mutates_args=())
def operator(features: Tensor) -> Tensor:
    """Eq. 1 for all pairs; see :func:`dainv_kernels.gpu.pairwise.pairwise_mse`."""
    from dainv_kernels.gpu import pairwise  # imported late: there may be no Triton

    return pairwise.pairwise_mse(copied_rows(features, features))


@operator.register_fake
def _(features: Tensor) -> Tensor:
    return features.new_empty(features.shape[0], features.shape[0], dtype=accumulator_dtype(features.dtype))


@torch.library.custom_op("dainv::pairwise_mse_backward", mutates_args=())
def operator_backward(grad_distances: Tensor, features: Tensor) -> Tensor:
    """Gradient of the features; see :func:`dainv_kernels.gpu.pairwise.pairwise_mse_backward`."""
    from dainv_kernels.gpu import pairwise

    gradient = torch.empty_like(features)
    rows = pairwise.pairwise_mse_backward(grad_distances, copied_rows(features, features))
    write_rows(rows, gradient, features)
    return gradient


@operator_backward.register_fake
def _(_grad_distances: Tensor, features: Tensor) -> Tensor:
    return torch.empty_like(features)


def _save(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _gradient(ctx: Any, grad: Tensor) -> Tensor:
    (features,) = ctx.saved_tensors
    if torch.is_grad_enabled():  # the gradient is to be differentiated in its turn
        return pairwise_gradient(grad, features)
    gradient: Tensor = operator_backward(grad, features)
    return gradient


operator.register_autograd(_gradient, setup_context=_save)


class _PairwiseMSE(OneBatch):
    @staticmethod
    def forward(features: Tensor) -> Tensor:
        return operator(features)

    setup_context = staticmethod(_save)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return _gradient(ctx, *grads)
