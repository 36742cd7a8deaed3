"""The loss and its gradient as torch operators, which compilers and ``torch.library.opcheck`` know.

Torch takes as long to dispatch an operator that is registered in Python as a small layer's loss takes, so where nobody
would hear of it the same work is done without: :func:`take_loss`, :func:`take_relu_loss` and :func:`take_gradient` see
to that. Features come in their own shape and layout and are viewed as rows here; ``segments`` are the tensors of
:class:`dainv_kernels.groups.Segments`, ``views`` is the last of its fields.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.utils._python_dispatch import _get_current_dispatch_mode

from dainv_kernels import closed_form, native
from dainv_kernels.groups import Segments
from dainv_kernels.implementation import Gradient, Implementation, Relu, Sums
from dainv_kernels.layout import accumulator_dtype, channel_of_column, copied_rows, writable_rows, write_rows


def _of(backend: str) -> Implementation:
    if backend in ("torch", "native"):
        return closed_form if backend == "torch" else native
    from dainv_kernels import gpu  # imported late: there may be no Triton

    return gpu.pairwise if backend == "triton-pairwise" else gpu.closed_form


def activate(features: Tensor, bias: Tensor | None, activation: Tensor, segments: Segments, backend: str) -> Sums:
    """ReLU of features plus bias into a tensor of their shape, which may be the features; and the loss of that."""
    rows = copied_rows(features, activation)  # in the order of what the backward pass will look at
    target = writable_rows(activation, activation)
    into = torch.empty(rows.shape, dtype=rows.dtype, device=rows.device) if target is None else target
    bias = None if bias is None else bias.contiguous()
    found = _of(backend).forward(rows, segments, Relu(into, bias, *channel_of_column(activation)))
    if target is None:
        write_rows(into, activation, activation)
    return found


def differentiate(
    grad_loss: Tensor,
    features: Tensor,
    segments: Segments,
    sums: Tensor,
    mean_offset: Tensor,
    backend: str,
    upstream: Tensor | None = None,
    relu: bool = False,
    out: Tensor | None = None,
) -> Tensor:
    """Gradient in the shape and, where it is dense, the layout of the features.

    Args:
        grad_loss: 0-d upstream gradient of the loss.
        features: ``(B, ...)``.
        segments: the groups.
        sums: from the forward pass.
        mean_offset: from the forward pass.
        backend: which implementation.
        upstream: gradient of the features from elsewhere, to be added.
        relu: the features are the output of a ReLU, through which the gradient is then taken.
        out: where to write; may be ``upstream``.
    """
    rows = copied_rows(features, features)
    result = torch.empty_like(features) if out is None else out
    target = writable_rows(result, features)
    into = torch.empty(rows.shape, dtype=rows.dtype, device=rows.device) if target is None else target
    upstream = None if upstream is None else copied_rows(upstream, features)
    gradient = Gradient(grad_loss, into, upstream, relu)
    _of(backend).backward(rows, segments, sums, mean_offset, gradient)
    if target is None:
        write_rows(into, result, features)
    return result


def _is_heard(*tensors: Tensor | None) -> bool:
    """Whether the dispatcher has something to do with these tensors beside calling a function.

    It has where a mode traces or counts, where a subclass of Tensor is more than its memory, and where a minus sign or
    zeros are not in memory yet.
    """
    return _get_current_dispatch_mode() is not None or any(
        type(tensor) not in (Tensor, Parameter) or tensor.is_neg() or tensor._is_zerotensor()
        for tensor in tensors
        if tensor is not None
    )


def take_loss(features: Tensor, segments: Segments, backend: str) -> tuple[Tensor, Tensor, Tensor]:
    """As :func:`invariance`, by the shortest way."""
    if _is_heard(features):
        return invariance(features, segments.tensors(), segments.views, backend)
    return _loss(features, segments, backend)


def take_relu_loss(
    features: Tensor, bias: Tensor | None, segments: Segments, backend: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As :func:`relu_invariance`, by the shortest way."""
    if _is_heard(features, bias):
        return relu_invariance(features, bias, segments.tensors(), segments.views, backend)
    return _relu_loss(features, bias, segments, backend)


def take_gradient(
    grad_loss: Tensor,
    features: Tensor,
    segments: Segments,
    sums: Tensor,
    mean_offset: Tensor,
    backend: str,
    upstream: Tensor | None = None,
    relu: bool = False,
) -> Tensor:
    """As :func:`differentiate` into a new tensor, by the shortest way."""
    if _is_heard(grad_loss, features, upstream):
        tensors, views = segments.tensors(), segments.views
        return invariance_backward(grad_loss, features, tensors, sums, mean_offset, upstream, relu, views, backend)
    return differentiate(grad_loss, features, segments, sums, mean_offset, backend, upstream, relu)


def _loss(features: Tensor, segments: Segments, backend: str) -> Sums:
    return _of(backend).forward(copied_rows(features, features), segments)


def _relu_loss(
    features: Tensor, bias: Tensor | None, segments: Segments, backend: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    activation = torch.empty_like(features)
    return activation, *activate(features, bias, activation, segments, backend)


@torch.library.custom_op("dainv::invariance", mutates_args=())
def invariance(features: Tensor, segments: Sequence[Tensor], views: int, backend: str) -> tuple[Tensor, Tensor, Tensor]:
    """Loss, its two sums of squares and the batch mean; see :class:`dainv_kernels.implementation.Sums`."""
    return _loss(features, Segments.of(segments, views), backend)


@torch.library.custom_op("dainv::relu_invariance", mutates_args=())
def relu_invariance(
    features: Tensor, bias: Tensor | None, segments: Sequence[Tensor], views: int, backend: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """ReLU of the features plus bias, and what :func:`invariance` gives for it."""
    return _relu_loss(features, bias, Segments.of(segments, views), backend)


@torch.library.custom_op("dainv::invariance_backward", mutates_args=())
def invariance_backward(
    grad_loss: Tensor,
    features: Tensor,
    segments: Sequence[Tensor],
    sums: Tensor,
    mean_offset: Tensor,
    upstream: Tensor | None,
    relu: bool,
    views: int,
    backend: str,
) -> Tensor:
    """Gradient of the features; see :func:`differentiate`."""
    return differentiate(
        grad_loss, features, Segments.of(segments, views), sums, mean_offset, backend, upstream=upstream, relu=relu
    )


# What comes out by shape and dtype alone.


@invariance.register_fake
def _empty_sums(features: Tensor, _segments: Sequence[Tensor], _views: int, backend: str) -> Sums:
    dtype = accumulator_dtype(features.dtype)
    n_means = 0 if backend == "triton-pairwise" else features.numel() // features.shape[0]
    return Sums(
        features.new_empty((), dtype=dtype),
        features.new_empty(2, dtype=torch.float64),
        features.new_empty(n_means, dtype=dtype),
    )


@relu_invariance.register_fake
def _(features: Tensor, _bias: Tensor | None, *rest: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return torch.empty_like(features), *_empty_sums(features, *rest)


@invariance_backward.register_fake
def _(_grad_loss: Tensor, features: Tensor, *_rest: Any) -> Tensor:
    return torch.empty_like(features)
