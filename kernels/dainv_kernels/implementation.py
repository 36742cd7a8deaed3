"""What a backend of the loss is: a module with ``forward`` and ``backward``, and what these are given."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from dainv_kernels.groups import Segments


class Sums(NamedTuple):
    """What the forward pass finds.

    Attributes:
        loss: 0-d, in the accumulator's dtype.
        sums: ``(2,)`` float64, weighted within-group and total sum of squares; both 0 where the latter is below the
            smallest normal number of the accumulator.
        mean_offset: ``(D,)`` batch mean, as an offset from the batch's first sample; empty where backward needs none.
    """

    loss: Tensor
    sums: Tensor
    mean_offset: Tensor


class Relu(NamedTuple):
    """A ReLU in front of the loss.

    Attributes:
        activation: ``(B, D)``, written: the ReLU of the features, of which the loss is then taken; may be these.
        bias: ``(C,)``, added before if given; that of column d is ``bias[d // inner % n_channels]``.
        inner: see bias.
        n_channels: C.
    """

    activation: Tensor
    bias: Tensor | None
    inner: int
    n_channels: int

    def bias_of_columns(self) -> Tensor | None:
        """``(D,)``."""
        if self.bias is None:
            return None
        column = torch.arange(self.activation.shape[1], device=self.bias.device)
        return self.bias[column // self.inner % self.n_channels]


def activate(x: Tensor, bias: Tensor | None, out: Tensor) -> None:
    """Write the ReLU of x plus bias, in torch: two passes where there is one."""
    if bias is not None:
        x = torch.add(x, bias, out=out)
    torch.clamp_min(x, 0, out=out)


class Gradient(NamedTuple):
    """What the gradient of the features consists of beside them, and where it goes.

    Attributes:
        of_loss: 0-d upstream gradient g of the loss.
        out: ``(B, D)``, written: the gradient, in the dtype of the features.
        upstream: ``(B, D)`` gradient of the features from elsewhere, to be added; may be ``out`` itself.
        relu: the features are the output of a ReLU, through which the gradient is then taken.
    """

    of_loss: Tensor
    out: Tensor
    upstream: Tensor | None = None
    relu: bool = False


class Implementation(Protocol):
    """A module that computes the loss of Eq. 3 and its gradient, both in as few passes over memory as it can."""

    def forward(self, rows: Tensor, segments: Segments, relu: Relu | None = None) -> Sums:
        """The loss, and the few numbers the backward pass needs.

        Args:
            rows: ``(B, D)`` features; element stride 1.
            segments: the groups.
            relu: a ReLU to take before.
        """

    def backward(self, rows: Tensor, segments: Segments, sums: Tensor, mean_offset: Tensor, gradient: Gradient) -> None:
        """Write the gradient ``2 g / T * (weight_k (f_i - m_k) - L (f_i - m))``, on deviations throughout.

        Args:
            rows: ``(B, D)`` features; after a ReLU, the activation.
            segments: the groups.
            sums: from :meth:`forward`.
            mean_offset: from :meth:`forward`.
            gradient: what else there is, and where to write.
        """
