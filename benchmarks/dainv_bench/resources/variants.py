"""What the Triton kernels are compiled for: GPUs, operations, and kinds of features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from dainv_kernels import Groups, invariance_loss, pairwise_mse, relu_invariance

TARGETS = {"sm_80": ("cuda", 80, 32), "sm_90": ("cuda", 90, 32), "gfx942": ("hip", "gfx942", 64)}


def _loss(x: Tensor, groups: Groups, backend: str = "triton") -> None:
    loss = invariance_loss(x, groups, backend=backend)
    torch.autograd.grad(loss, x)


def _loss_beside_another_use(x: Tensor, groups: Groups) -> None:
    """The gradient is added to what the next layer has left, where torch says what that is."""
    activation = x.clone()
    loss = invariance_loss(activation, groups, backend="triton")
    used = 2 * activation
    torch.autograd.grad((loss, used), x, (torch.ones_like(loss), torch.empty_like(used)))


def _relu_and_loss(x: Tensor, groups: Groups, backend: str = "triton") -> None:
    y, loss = relu_invariance(x, groups, backend=backend)
    torch.autograd.grad((y, loss), x, (torch.empty_like(y), torch.ones_like(loss)))


def _bias_relu_and_loss(x: Tensor, groups: Groups) -> None:
    bias = torch.empty(x.shape[1], dtype=x.dtype, requires_grad=True)
    y, loss = relu_invariance(x, groups, bias=bias, backend="triton")
    torch.autograd.grad((y, loss), (x, bias), (torch.empty_like(y), torch.ones_like(loss)))


def _distances(x: Tensor, _groups: Groups) -> None:
    distances = pairwise_mse(x, backend="triton-pairwise")
    torch.autograd.grad(distances, x, torch.empty_like(distances))


# Forward and backward. A new operation goes here, and VARIANTS says what it is compiled for.
OPERATIONS: dict[str, Callable[[Tensor, Groups], None]] = {
    "loss": _loss,
    "loss (added)": _loss_beside_another_use,
    "ReLU + loss": _relu_and_loss,
    "bias + ReLU + loss": _bias_relu_and_loss,
    "loss by pairs": partial(_loss, backend="triton-pairwise"),
    "ReLU + loss by pairs": partial(_relu_and_loss, backend="triton-pairwise"),
    "distances": _distances,
}


@dataclass(frozen=True)
class Variant:
    """A use of the kernels: an operation on one kind of features.

    Attributes:
        operation: a key of OPERATIONS.
        dtype: of the features.
        views: M of consecutive groups; 0: groups of any size in any order, or an operation without groups.
        batch: B. By default that of the paper, as the features are those of All-CNN-C's first layer.
        features: shape of a sample, channels first, whose product is D; channels lie side by side in memory.
    """

    operation: str
    dtype: str = "float32"
    views: int = 8
    batch: int = 128
    features: tuple[int, ...] = (96, 32, 32)

    @property
    def groups(self) -> str:
        """What the samples are grouped by, for people."""
        if self.operation == "distances":
            return "–"
        return f"{self.views} views" if self.views else "any"

    @property
    def element_size(self) -> int:
        """Bytes of a feature."""
        dtype: torch.dtype = getattr(torch, self.dtype)
        return dtype.itemsize

    @property
    def shape(self) -> str:
        """B × features, for people."""
        return " × ".join(map(str, (self.batch, *self.features)))

    @property
    def name(self) -> str:
        """One line that no other variant has."""
        return f"{self.operation}, {self.dtype}, {self.groups}, {self.shape}"

    def run(self) -> None:
        """Call the operation and its derivative."""
        channels, *pixels = self.features
        stored = torch.empty(self.batch, *pixels, channels, dtype=getattr(torch, self.dtype))
        x = stored.movedim(-1, 1).requires_grad_()
        if self.views:
            groups = Groups.consecutive(self.batch // self.views, self.views)
        else:
            groups = Groups.from_ids(torch.arange(self.batch) % 16)
        OPERATIONS[self.operation](x, groups)


_FUSED = "bias + ReLU + loss"
_PAIRS = "loss by pairs"
_LAST_LAYER = (10, 8, 8)
_UNALIGNED = (97,)  # rows that do not start at multiples of 16 bytes
VARIANTS = (
    *(Variant(operation) for operation in ("loss", "loss (added)", "ReLU + loss", _FUSED)),
    *(Variant(_FUSED, dtype) for dtype in ("bfloat16", "float16", "float64")),
    *(Variant(_FUSED, views=views) for views in (2, 16, 32)),  # both sides of where loops are no longer unrolled
    *(Variant(operation, views=0) for operation in ("loss", _FUSED)),
    Variant(_FUSED, "bfloat16", views=0),
    *(Variant(_FUSED, dtype, features=_LAST_LAYER) for dtype in ("float32", "bfloat16")),
    Variant(_FUSED, batch=4096, features=_LAST_LAYER),
    Variant(_FUSED, features=_UNALIGNED),
    *(Variant(_PAIRS, dtype) for dtype in ("float32", "bfloat16", "float64")),
    Variant(_PAIRS, views=0),
    Variant(_PAIRS, features=_UNALIGNED),
    Variant("ReLU + loss by pairs"),
    *(Variant("distances", dtype, views=0) for dtype in ("float32", "float64")),
)
