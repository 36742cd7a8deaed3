"""The closed form as torch operators, so that autograd, torch.compile, functorch and opcheck know it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dainv_kernels import closed_form
from dainv_kernels.layout import accumulator_dtype


@torch.library.custom_op("dainv::invariance", mutates_args=())
def invariance(
    rows: Tensor, order: Tensor, bounds: Tensor, n_groups: Tensor, weights: Tensor, views: int, backend: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss, its two sums of squares and the batch mean; see :func:`dainv_kernels.closed_form.forward`."""
    if rows.stride(1) != 1:  # a compiler may hand over another layout than it was given
        rows = rows.contiguous()
    if backend == "triton":
        from dainv_kernels import triton_closed_form

        return triton_closed_form.forward(rows, order, bounds, n_groups, weights, views)
    return closed_form.forward(rows, order, bounds, weights, views)


@invariance.register_fake
def _(
    rows: Tensor, order: Tensor, bounds: Tensor, n_groups: Tensor, weights: Tensor, views: int, backend: str
) -> tuple[Tensor, Tensor, Tensor]:
    dtype = accumulator_dtype(rows.dtype)
    return (
        rows.new_empty((), dtype=dtype),
        rows.new_empty(2, dtype=torch.float64),
        rows.new_empty(rows.shape[1], dtype=dtype),
    )


@torch.library.custom_op("dainv::invariance_backward", mutates_args=())
def invariance_backward(
    grad_loss: Tensor,
    rows: Tensor,
    order: Tensor,
    bounds: Tensor,
    n_groups: Tensor,
    weights: Tensor,
    sums: Tensor,
    mean_offset: Tensor,
    views: int,
    backend: str,
) -> Tensor:
    """Gradient of the loss; see :func:`dainv_kernels.closed_form.backward`."""
    if rows.stride(1) != 1:
        rows = rows.contiguous()
    if backend == "triton":
        from dainv_kernels import triton_closed_form

        return triton_closed_form.backward(grad_loss, rows, order, bounds, n_groups, weights, sums, mean_offset, views)
    return closed_form.backward(grad_loss, rows, order, bounds, weights, sums, mean_offset, views)


@invariance_backward.register_fake
def _(
    grad_loss: Tensor,
    rows: Tensor,
    order: Tensor,
    bounds: Tensor,
    n_groups: Tensor,
    weights: Tensor,
    sums: Tensor,
    mean_offset: Tensor,
    views: int,
    backend: str,
) -> Tensor:
    return rows.new_empty(rows.shape)


def _save_forward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    rows, order, bounds, n_groups, weights, ctx.views, ctx.backend = inputs
    _, sums, mean_offset = output
    ctx.save_for_backward(rows, order, bounds, n_groups, weights, sums, mean_offset)


def _forward_vjp(ctx: Any, grad_loss: Tensor, *_unused: Tensor) -> tuple[Tensor | None, ...]:
    rows, order, bounds, n_groups, weights, sums, mean_offset = ctx.saved_tensors
    grad = invariance_backward(
        grad_loss, rows, order, bounds, n_groups, weights, sums, mean_offset, ctx.views, ctx.backend
    )
    return grad, None, None, None, None, None, None


def _save_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    grad_loss, rows, order, bounds, _, weights, *_ = inputs
    ctx.save_for_backward(grad_loss, rows, order, bounds, weights)


def _backward_vjp(ctx: Any, tangent: Tensor) -> tuple[Tensor | None, ...]:
    """Derivative of the gradient, rare enough that plain autograd on the closed form serves."""
    grad_loss, rows, order, bounds, weights = ctx.saved_tensors
    with torch.enable_grad():
        upstream, features = grad_loss.detach().requires_grad_(), rows.detach().requires_grad_()
        loss = closed_form.differentiable(features, order, bounds, weights)
        (gradient,) = torch.autograd.grad(loss, features, upstream.to(loss.dtype), create_graph=True)
        d_upstream, d_features = torch.autograd.grad(gradient, (upstream, features), tangent)
    return d_upstream, d_features, *[None] * 8


invariance.register_autograd(_forward_vjp, setup_context=_save_forward)
invariance_backward.register_autograd(_backward_vjp, setup_context=_save_backward)


@torch.library.custom_op("dainv::relu_invariance", mutates_args=())
def relu_invariance(
    rows: Tensor, order: Tensor, bounds: Tensor, n_groups: Tensor, weights: Tensor, views: int, backend: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """ReLU of the rows, and what :func:`invariance` gives for it."""
    if rows.stride(1) != 1:
        rows = rows.contiguous()
    activation = torch.empty(rows.shape, dtype=rows.dtype, device=rows.device)
    if backend == "triton":
        from dainv_kernels import triton_closed_form

        results = triton_closed_form.forward(rows, order, bounds, n_groups, weights, views, activation)
    else:
        results = closed_form.forward(rows, order, bounds, weights, views, activation)
    return activation, *results


@relu_invariance.register_fake
def _(
    rows: Tensor, order: Tensor, bounds: Tensor, n_groups: Tensor, weights: Tensor, views: int, backend: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dtype = accumulator_dtype(rows.dtype)
    return (
        rows.new_empty(rows.shape),
        rows.new_empty((), dtype=dtype),
        rows.new_empty(2, dtype=torch.float64),
        rows.new_empty(rows.shape[1], dtype=dtype),
    )


@torch.library.custom_op("dainv::relu_invariance_backward", mutates_args=())
def relu_invariance_backward(
    grad_activation: Tensor,
    grad_loss: Tensor,
    activation: Tensor,
    order: Tensor,
    bounds: Tensor,
    n_groups: Tensor,
    weights: Tensor,
    sums: Tensor,
    mean_offset: Tensor,
    views: int,
    backend: str,
) -> Tensor:
    """Gradient of the rows from those of their ReLU and of the loss, in one pass."""
    if grad_activation.stride(1) != 1:
        grad_activation = grad_activation.contiguous()
    if backend == "triton":
        from dainv_kernels import triton_closed_form

        return triton_closed_form.backward(
            grad_loss, activation, order, bounds, n_groups, weights, sums, mean_offset, views, grad_activation
        )
    return closed_form.backward(
        grad_loss, activation, order, bounds, weights, sums, mean_offset, views, grad_activation
    )


@relu_invariance_backward.register_fake
def _(
    grad_activation: Tensor,
    grad_loss: Tensor,
    activation: Tensor,
    order: Tensor,
    bounds: Tensor,
    n_groups: Tensor,
    weights: Tensor,
    sums: Tensor,
    mean_offset: Tensor,
    views: int,
    backend: str,
) -> Tensor:
    return activation.new_empty(activation.shape)


def _save_relu_forward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    _, order, bounds, n_groups, weights, ctx.views, ctx.backend = inputs
    activation, _, sums, mean_offset = output
    ctx.save_for_backward(activation, order, bounds, n_groups, weights, sums, mean_offset)


def _relu_forward_vjp(ctx: Any, grad_activation: Tensor, grad_loss: Tensor, *_unused: Tensor) -> tuple[Any, ...]:
    activation, order, bounds, n_groups, weights, sums, mean_offset = ctx.saved_tensors
    grad = relu_invariance_backward(
        *(grad_activation, grad_loss, activation, order, bounds, n_groups, weights, sums, mean_offset),
        ctx.views,
        ctx.backend,
    )
    return grad, None, None, None, None, None, None


relu_invariance.register_autograd(_relu_forward_vjp, setup_context=_save_relu_forward)
