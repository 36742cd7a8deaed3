"""The closed form as torch operators, which compilers and ``torch.library.opcheck`` know.

Features come in their own shape and layout and are viewed as rows here; ``segments`` are the tensors of
:class:`dainv_kernels.groups.Segments`, ``views`` is the last of its fields.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

import torch
from torch import Tensor

from dainv_kernels import closed_form, native
from dainv_kernels.groups import Segments
from dainv_kernels.layout import accumulator_dtype, channel_of_column, copied_rows, rows_like, write_rows

Sums = tuple[Tensor, Tensor, Tensor]


def _implementation(backend: str) -> ModuleType:
    if backend in ("torch", "native"):
        return closed_form if backend == "torch" else native
    from dainv_kernels import triton_closed_form, triton_pairwise  # imported late: there may be no Triton

    return triton_pairwise if backend == "triton-pairwise" else triton_closed_form


def activate(
    features: Tensor, bias: Tensor | None, activation: Tensor, segments: Segments, backend: str
) -> tuple[Tensor, Tensor, Tensor]:
    """ReLU of features plus bias into a tensor of their shape, which may be the features; and the loss of that."""
    rows = copied_rows(features, activation)  # in the order of what the backward pass will look at
    target = rows_like(activation, activation)
    into = torch.empty(rows.shape, dtype=rows.dtype, device=rows.device) if target is None else target
    bias = None if bias is None else bias.contiguous()
    results = _implementation(backend).forward(rows, segments, into, bias, *channel_of_column(activation))
    if target is None:
        write_rows(into, activation, activation)
    return results


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
        grad_loss: see :func:`dainv_kernels.closed_form.backward`.
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
    gradient = torch.empty_like(features) if out is None else out
    target = rows_like(gradient, features)
    into = torch.empty(rows.shape, dtype=rows.dtype, device=rows.device) if target is None else target
    upstream = None if upstream is None else copied_rows(upstream, features)
    _implementation(backend).backward(grad_loss, rows, segments, sums, mean_offset, into, upstream, relu)
    if target is None:
        write_rows(into, gradient, features)
    return gradient


@torch.library.custom_op("dainv::invariance", mutates_args=())
def invariance(features: Tensor, segments: Sequence[Tensor], views: int, backend: str) -> tuple[Tensor, Tensor, Tensor]:
    """Loss, its two sums of squares and the batch mean; see :func:`dainv_kernels.closed_form.forward`."""
    return _implementation(backend).forward(copied_rows(features, features), Segments.of(segments, views))


@invariance.register_fake
def _(features: Tensor, segments: Sequence[Tensor], views: int, backend: str) -> tuple[Tensor, Tensor, Tensor]:
    return _empty_sums(features, backend)


def _empty_sums(features: Tensor, backend: str) -> Sums:
    dtype = accumulator_dtype(features.dtype)
    n_means = 0 if backend == "triton-pairwise" else features.numel() // features.shape[0]
    return (
        features.new_empty((), dtype=dtype),
        features.new_empty(2, dtype=torch.float64),
        features.new_empty(n_means, dtype=dtype),
    )


@torch.library.custom_op("dainv::relu_invariance", mutates_args=())
def relu_invariance(
    features: Tensor, bias: Tensor | None, segments: Sequence[Tensor], views: int, backend: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """ReLU of the features plus bias, and what :func:`invariance` gives for it."""
    activation = torch.empty_like(features)
    return activation, *activate(features, bias, activation, Segments.of(segments, views), backend)


@relu_invariance.register_fake
def _(
    features: Tensor, bias: Tensor | None, segments: Sequence[Tensor], views: int, backend: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return torch.empty_like(features), *_empty_sums(features, backend)


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


@invariance_backward.register_fake
def _(
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
    return torch.empty_like(features)


@torch.library.custom_op("dainv::pairwise_mse", mutates_args=())
def pairwise_mse(features: Tensor) -> Tensor:
    """Eq. 1 for all pairs; see :func:`dainv_kernels.triton_pairwise.pairwise_mse`."""
    from dainv_kernels import triton_pairwise

    return triton_pairwise.pairwise_mse(copied_rows(features, features))


@pairwise_mse.register_fake
def _(features: Tensor) -> Tensor:
    return features.new_empty(features.shape[0], features.shape[0], dtype=accumulator_dtype(features.dtype))


@torch.library.custom_op("dainv::pairwise_mse_backward", mutates_args=())
def pairwise_mse_backward(grad_distances: Tensor, features: Tensor) -> Tensor:
    """Gradient of the features; see :func:`dainv_kernels.triton_pairwise.pairwise_mse_backward`."""
    from dainv_kernels import triton_pairwise

    gradient = torch.empty_like(features)
    write_rows(
        triton_pairwise.pairwise_mse_backward(grad_distances, copied_rows(features, features)), gradient, features
    )
    return gradient


@pairwise_mse_backward.register_fake
def _(grad_distances: Tensor, features: Tensor) -> Tensor:
    return torch.empty_like(features)
