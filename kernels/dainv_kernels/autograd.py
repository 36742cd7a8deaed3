"""First derivatives by the kernels, higher ones by plain autograd, and gradients added up where they are needed.

In eager mode the loss is a ``torch.autograd.Function``: functorch composes with it, and its gradient can be added to
the one that the next layer has left for the same activation (``FunctionCtx.input_grad_buffers``), which saves a tensor
and two passes over it. A compiler is given the registered operators, to which the same derivatives belong.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from dainv_kernels import registration
from dainv_kernels.derivatives import loss_gradient
from dainv_kernels.function import OneBatch
from dainv_kernels.groups import Segments
from dainv_kernels.layout import writable_rows


def invariance(features: Tensor, segments: Segments, backend: str) -> Tensor:
    """The 0-d loss of features ``(B, ...)``, differentiable."""
    call = registration.invariance if torch.compiler.is_compiling() else _Invariance.apply
    loss: Tensor = call(features, segments.tensors(), segments.views, backend)[0]
    return loss


def relu_invariance(
    x: Tensor, bias: Tensor | None, segments: Segments, backend: str, inplace: bool
) -> tuple[Tensor, Tensor]:
    """ReLU of ``x`` plus bias and the 0-d loss of that, differentiable."""
    inputs = (x, bias, segments.tensors(), segments.views, backend)
    if torch.compiler.is_compiling():  # compilers reuse memory by themselves
        activation, loss, _, _ = registration.relu_invariance(*inputs)
    else:
        activation, loss, _, _ = _ReluInvariance.apply(*inputs, inplace)
    return activation, loss


def save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    """What :func:`gradient` needs, of :func:`registration.invariance`'s arguments and results."""
    features, segments, ctx.views, ctx.backend = inputs
    _, *for_backward = output
    ctx.save_for_backward(features, *segments, *for_backward)
    ctx.mark_non_differentiable(*for_backward)
    ctx.set_materialize_grads(False)


def gradient(ctx: Any, grad_loss: Tensor | None, buffer: Tensor | None) -> Tensor | None:
    """Gradient of the features; None if there is none or if it has been added to the buffer."""
    if grad_loss is None:
        return None
    features, *tensors, sums, mean_offset = ctx.saved_tensors
    segments = Segments.of(tensors, ctx.views)
    if torch.is_grad_enabled():  # the gradient is to be differentiated in its turn
        return loss_gradient(grad_loss, features, segments)
    if buffer is not None and _is_writable(buffer, features):
        registration.differentiate(
            grad_loss, features, segments, sums, mean_offset, ctx.backend, upstream=buffer, out=buffer
        )
        return None
    return registration.take_gradient(grad_loss, features, segments, sums, mean_offset, ctx.backend)


def _is_writable(buffer: Tensor, features: Tensor) -> bool:
    """Whether a gradient can be written into the buffer where it lies."""
    has_memory = buffer.dtype == features.dtype and not buffer._is_zerotensor()
    return has_memory and writable_rows(buffer, features) is not None


def accumulation_buffer(ctx: FunctionCtx) -> Tensor | None:
    """What the gradient of the first input has been added up to so far; None where torch does not tell (< 2.15)."""
    try:
        return ctx.input_grad_buffers[0]
    except (AttributeError, RuntimeError):
        return None


class _Invariance(OneBatch):
    @staticmethod
    def forward(features: Tensor, segments: list[Tensor], views: int, backend: str) -> tuple[Tensor, Tensor, Tensor]:
        return registration.take_loss(features, Segments.of(segments, views), backend)

    setup_context = staticmethod(save)

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor | None, *_unused: None) -> tuple[Tensor | None, None, None, None]:
        return gradient(ctx, grad_loss, accumulation_buffer(ctx)), None, None, None


registration.invariance.register_autograd(
    lambda ctx, grad_loss, *_unused: (gradient(ctx, grad_loss, None), [None] * 5, None, None), setup_context=save
)


def save_relu(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    """What :func:`relu_gradient` needs, of :func:`registration.relu_invariance`'s arguments, in place, and results."""
    x, _, segments, ctx.views, ctx.backend, *inplace = inputs
    activation, _, *for_backward = output
    ctx.inplace = any(inplace)
    if ctx.inplace:
        ctx.mark_dirty(x)
    ctx.save_for_backward(activation, *segments, *for_backward)
    ctx.mark_non_differentiable(*for_backward)
    ctx.set_materialize_grads(False)


def relu_gradient(
    ctx: Any, grad_activation: Tensor | None, grad_loss: Tensor | None
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of x and of the bias."""
    activation, *tensors, sums, mean_offset = ctx.saved_tensors
    segments = Segments.of(tensors, ctx.views)
    if grad_loss is None:
        if grad_activation is None:
            return None, None
        grad = torch.ops.aten.threshold_backward(grad_activation, activation, 0)
    elif torch.is_grad_enabled():
        grad = loss_gradient(grad_loss, activation, segments)
        if grad_activation is not None:
            grad = grad + grad_activation
        grad = grad * (activation > 0)
    elif ctx.inplace and grad_activation is not None and _is_writable(grad_activation, activation):
        grad = registration.differentiate(
            *(grad_loss, activation, segments, sums, mean_offset, ctx.backend),
            upstream=grad_activation,
            relu=True,
            out=grad_activation,
        )
    else:
        grad = registration.take_gradient(
            grad_loss, activation, segments, sums, mean_offset, ctx.backend, upstream=grad_activation, relu=True
        )
    grad_bias = grad.sum([0, *range(2, grad.ndim)]) if ctx.needs_input_grad[1] else None
    return grad, grad_bias


class _ReluInvariance(OneBatch):
    @staticmethod
    def forward(
        x: Tensor, bias: Tensor | None, segments: list[Tensor], views: int, backend: str, inplace: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        if inplace:
            return x, *registration.activate(x, bias, x, Segments.of(segments, views), backend)
        return registration.take_relu_loss(x, bias, Segments.of(segments, views), backend)

    setup_context = staticmethod(save_relu)

    @staticmethod
    def backward(
        ctx: Any, grad_activation: Tensor | None, grad_loss: Tensor | None, *_unused: None
    ) -> tuple[Tensor | None, ...]:
        return *relu_gradient(ctx, grad_activation, grad_loss), None, None, None, None


registration.relu_invariance.register_autograd(
    lambda ctx, grad_activation, grad_loss, *_unused: (
        *relu_gradient(ctx, grad_activation, grad_loss),
        [None] * 5,
        None,
        None,
    ),
    setup_context=save_relu,
)
