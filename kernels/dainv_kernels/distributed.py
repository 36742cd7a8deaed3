"""The closed form over the joined batch of several processes: one exchange a layer, in the forward pass.

Every process runs its backend's kernels on its own samples. What these leave, two sums of squares and a mean, is
gathered by all and merged by Chan's formula: W = sum_r W_r and T = sum_r T_r + sum_r B_r |m_r - m|^2. The gradient of a
sample needs of the other processes only W, T and m, so that the backward pass exchanges nothing. A group never spans
processes: ids mean something within one only.

See kernels/README.md for what goes over the wire.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed

from dainv_kernels import autograd, registration
from dainv_kernels.groups import Groups
from dainv_kernels.layout import accumulator_dtype, copied_rows, write_rows

if TYPE_CHECKING:  # not every build of torch has it
    from torch.distributed import ProcessGroup

Joined = tuple[Tensor, Tensor, Tensor, Tensor]


def invariance(
    features: Tensor, groups: Groups, normalization: str, backend: str, process_group: ProcessGroup
) -> Tensor:
    """The 0-d loss of the joined batch; see :func:`dainv_kernels.invariance_loss` for this and the errors."""
    batch = _Batch(groups, normalization, backend, process_group)
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
    batch = _Batch(groups, normalization, backend, process_group)
    activation, loss, *_ = _uncompiled(_ReluInvariance.apply)(x, bias, batch, inplace)
    return activation, loss


def _uncompiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, kept from a compiler, which is not imported to keep it out."""
    disabled: Callable[..., Any] = torch.compiler.disable(function) if torch.compiler.is_compiling() else function
    return disabled


class _Batch:
    """The own part of a joined batch, and how to reach the other processes.

    Raises:
        TypeError: not a process group.
        ValueError: a backend that needs all pairs of samples.
    """

    def __init__(self, groups: Groups, normalization: str, backend: str, process_group: ProcessGroup) -> None:
        _check(process_group, backend)
        self.segments = groups.segments(normalization)
        self.counts = groups.counts
        self.normalization = normalization
        self.backend = backend
        self.process_group = process_group
        self.size = process_group.size()

    def join(self, features: Tensor, sums: Tensor, mean_offset: Tensor) -> Joined:
        """From what the own samples give to what all give.

        Args:
            features: ``(B_r, ...)``, the own samples.
            sums: ``(2,)`` float64, their weighted within-group and total sums of squares.
            mean_offset: ``(D,)`` their mean, as an offset from the first of them.

        Returns:
            0-d loss; ``(2,)`` sums; ``(D,)`` mean as an offset from the own first sample; ``(B_r,)`` weights of the
            own groups: all of the joined batch.
        """
        first = copied_rows(features[:1], features)[0].double()
        everyone = self._gathered(features, sums, first + mean_offset)
        counts, sums, means = everyone.split([2, 2, everyone.shape[1] - 4], dim=1)
        samples = counts[:, :1]
        # The own weights are a number of the whole batch times one of the group: change the former.
        own, joint = _of_batch(counts, self.normalization), _of_batch(counts.sum(0), self.normalization)
        rescale = torch.where(own == 0, 0.0, joint / own)
        # From the first process's mean, so that equal samples are exactly 0 apart wherever they are.
        from_first_mean = means - means[0]
        mean = (samples * from_first_mean).sum(0) / samples.sum()
        between = (samples * (from_first_mean - mean).square()).sum()
        within, total = sums.unbind(1)
        weighted, total = (rescale * within).sum(), total.sum() + between
        loss = torch.where(total == 0, 0.0, weighted / total)
        dtype = accumulator_dtype(features.dtype)
        logical = (means[0] + mean).view(1, *features.shape[1:])
        offset = copied_rows(logical, features)[0] - first
        weights = self.segments.weights * rescale[self.process_group.rank()]
        return loss.to(dtype), torch.stack([weighted, total]), offset.to(dtype), weights

    def _gathered(self, features: Tensor, sums: Tensor, mean: Tensor) -> Tensor:
        """``(processes, 4 + D)`` float64: number of samples and of pairs, both sums, the mean in the order of (C, ...).

        The order of storage may be another one on every process.
        """
        own = torch.empty(4 + len(mean), dtype=torch.float64, device=mean.device)
        own[:2], own[2:4] = self.counts, sums
        write_rows(mean[None], own[4:].view(1, *features.shape[1:]), features)
        everyone = own.new_empty(self.size * len(own))
        distributed.all_gather_into_tensor(everyone, own, group=self.process_group)
        return everyone.view(self.size, -1)


def _check(process_group: ProcessGroup, backend: str) -> None:
    if not distributed.is_available() or not isinstance(process_group, distributed.ProcessGroup):
        raise TypeError(
            f"process_group: expected None or a torch.distributed.ProcessGroup, got {type(process_group).__name__}"
        )
    if backend in ("reference", "triton-pairwise"):
        raise ValueError(
            f"backend: {backend!r} compares pairs of samples, which several processes do not have in one place; "
            "expected 'auto' or a closed form, such as 'torch', with a process_group"
        )


def _of_batch(counts: Tensor, normalization: str) -> Tensor:
    """What the weights of all groups of a batch have in common (:meth:`Groups.weights`), from its counts."""
    samples, pairs = counts.unbind(-1)
    return samples if normalization == "printed" else torch.where(pairs > 0, (samples - 1) / pairs.clamp(min=1), 0.0)


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


class _Invariance(torch.autograd.Function):
    @staticmethod
    def forward(features: Tensor, batch: _Batch) -> Joined:
        segments = batch.segments
        _, sums, mean_offset = registration.invariance(features, segments.tensors(), segments.views, batch.backend)
        return batch.join(features, sums, mean_offset)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, _Batch], output: Joined) -> None:
        features, batch = inputs
        loss, sums, mean_offset, weights = output
        segments = batch.segments._replace(weights=weights)
        autograd.save(ctx, (features, segments.tensors(), segments.views, batch.backend), (loss, sums, mean_offset))
        ctx.mark_non_differentiable(sums, mean_offset, weights)
        ctx.size = batch.size

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor | None, *_unused: None) -> tuple[Tensor | None, None]:
        return autograd.gradient(ctx, _upstream(grad_loss, ctx.size), autograd.accumulation_buffer(ctx)), None


class _ReluInvariance(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, bias: Tensor | None, batch: _Batch, inplace: bool) -> tuple[Tensor, ...]:
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
