"""The closed form over the joined batch of several processes, differentiable.

Every process runs its backend's kernels on its own samples, and :mod:`dainv_kernels.joined` makes of what they leave
that of all samples. The gradient of a sample needs of the other processes only W, T and m, so that the backward pass
exchanges nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dainv_kernels import autograd, registration
from dainv_kernels.function import OneBatch
from dainv_kernels.groups import Groups
from dainv_kernels.joined import Batch, Joined

if TYPE_CHECKING:  # not every build of torch has it
    from torch.distributed import ProcessGroup


def invariance(
    features: Tensor, groups: Groups, normalization: str, backend: str, process_group: ProcessGroup
) -> Tensor:
    """The 0-d loss of the joined batch; see :func:`dainv_kernels.invariance_loss` for this and the errors."""
    batch = Batch(groups, normalization, backend, process_group)
    loss: Tensor = _uncompiled(_Invariance.apply)(features, batch)[0]
    return loss


def relu_invariance(
    x: Tensor,
    bias: Tensor | None,
    groups: Groups,
    normalization: str,
    backend: str,
    inplace: bool,
    process_group: ProcessGroup,
) -> tuple[Tensor, Tensor]:
    """ReLU of the own samples, and the 0-d loss of that in the joined batch."""
    batch = Batch(groups, normalization, backend, process_group)
    activation, loss, *_ = _uncompiled(_ReluInvariance.apply)(x, bias, batch, inplace)
    return activation, loss


def _uncompiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, kept from a compiler, which is not imported to keep it out."""
    disabled: Callable[..., Any] = torch.compiler.disable(function) if torch.compiler.is_compiling() else function
    return disabled


def _upstream(grad_loss: Tensor | None, size: int) -> Tensor | None:
    """What the loss's derivative is multiplied by: the gradients of all processes' losses, which are equal.

    Raises:
        RuntimeError: the gradient is to be differentiated in its turn, which would need another exchange.
    """
    if grad_loss is None:
        return None
    if torch.is_grad_enabled():
        raise RuntimeError(
            "the invariance loss of several processes has first derivatives only: "
            "expected backward() without create_graph, and no torch.func transform, with a process_group"
        )
    return grad_loss * size


class _Invariance(OneBatch):
    @staticmethod
    def forward(features: Tensor, batch: Batch) -> Joined:
        segments = batch.segments
        _, sums, mean_offset = registration.invariance(features, segments.tensors(), segments.views, batch.backend)
        return batch.join(features, sums, mean_offset)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Batch], output: Joined) -> None:
        features, batch = inputs
        loss, sums, mean_offset, weights = output
        segments = batch.segments._replace(weights=weights)
        autograd.save(ctx, (features, segments.tensors(), segments.views, batch.backend), (loss, sums, mean_offset))
        ctx.mark_non_differentiable(sums, mean_offset, weights)
        ctx.size = batch.size

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor | None, *_unused: None) -> tuple[Tensor | None, None]:
        return autograd.gradient(ctx, _upstream(grad_loss, ctx.size), autograd.accumulation_buffer(ctx)), None


class _ReluInvariance(OneBatch):
    @staticmethod
    def forward(x: Tensor, bias: Tensor | None, batch: Batch, inplace: bool) -> tuple[Tensor, ...]:
        segments = batch.segments
        activation = x if inplace else torch.empty_like(x)
        _, *results = registration.activate(x, bias, activation, segments, batch.backend)
        return activation, *batch.join(activation, *results)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, bias, batch, inplace = inputs
        activation, loss, sums, mean_offset, weights = output
        segments = batch.segments._replace(weights=weights)
        arguments = (x, bias, segments.tensors(), segments.views, batch.backend, inplace)
        autograd.save_relu(ctx, arguments, (activation, loss, sums, mean_offset))
        ctx.mark_non_differentiable(sums, mean_offset, weights)
        ctx.size = batch.size

    @staticmethod
    def backward(
        ctx: Any, grad_activation: Tensor | None, grad_loss: Tensor | None, *_unused: None
    ) -> tuple[Tensor | None, ...]:
        return *autograd.relu_gradient(ctx, grad_activation, _upstream(grad_loss, ctx.size)), None, None
