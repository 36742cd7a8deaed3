"""Eq. 3 in closed form as one would write it in plain torch: the peer whose rounding errors the operator's may double.

Written from the formula and not from the package: nothing here imports it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from hypothesis import target
from kernels_checks import result_dtype
from torch import Tensor

# On top of twice what the peer commits, in roundings of the accumulator: a peer that is exact by luck (and it often is,
# with few features) must not make an error of one rounding a failure. About as many as LOSS of kernels_checks allows:
# sums around a group's first sample lose up to a factor 1 + n_k where that sample is far from the others, which random
# batches of few features and large groups come across.
FEW = 16


@dataclass(frozen=True)
class Plain:
    """The closed form in plain torch operations: W_k around means of groups, T around that of the batch."""

    within: Tensor  # (B, D): x - m_k
    around: Tensor  # (B, D): x - m
    weights: Tensor  # (B,): w_k of the group of each sample

    @classmethod
    def of(cls, x: Tensor, ids: Tensor, normalization: str) -> Plain:
        """In the dtype of x; halves are widened, as autocast widens what is summed."""
        x = x.flatten(1).to(result_dtype(x.dtype))
        group, sizes = ids.to(x.device).unique(return_inverse=True, return_counts=True)[1:]
        sums = x.new_zeros(len(sizes), x.shape[1]).index_add(0, group, x)
        n, batch = sizes.to(x.dtype), len(ids)
        pairs = (n * (n - 1)).sum()
        weights = n * (batch - 1) / pairs.clamp(min=1) if normalization == "pairs" else batch / n
        weights = torch.where(n > 1, weights, 0.0)
        return cls(x - (sums / n[:, None])[group], x - x.mean(0), weights[group])

    def loss(self) -> Tensor:
        total = self.around.square().sum()
        numerator = (self.weights * self.within.square().sum(1)).sum()
        return numerator * 0 if total == 0 else numerator / total

    def size_of_gradient(self) -> float:
        """Norm of the two terms that the gradient is the difference of: the scale of unavoidable rounding errors."""
        total = self.around.square().sum().item()
        if total == 0:
            return 0.0
        of_groups = (self.weights[:, None] * self.within).norm().item()
        return 2 / total * (of_groups + self.loss().item() * self.around.norm().item())


def plain_loss(x: Tensor, ids: Tensor, normalization: str = "pairs") -> Tensor:
    return Plain.of(x, ids, normalization).loss()


def power_of_two_near(value: float) -> float:
    return 2.0 ** round(math.log2(value)) if value > 0 else 1.0


def twice_plain(
    got: tuple[Tensor, Tensor],
    plain: tuple[Tensor, Tensor],
    true: tuple[Tensor, Tensor],
    size_of_gradient: float,
    truncated: bool = False,
) -> tuple[float, float]:
    """Error of (loss, gradient) as a ratio to what it may be: twice the peer's and a few roundings.

    Roundings of the gradient are measured by the terms that it is the difference of, ``size_of_gradient``: with one
    group they cancel and the gradient is nothing but rounding errors. ``truncated``: see :func:`truncates`.
    """
    ratios = []
    for ours, peer, truth, size in zip(got, plain, true, (true[0].abs().item(), size_of_gradient), strict=True):
        ours, peer = ours.detach().cpu(), peer.detach().cpu()
        eps = torch.finfo(result_dtype(ours.dtype)).eps
        allowed = 2 * (peer.double() - truth).norm().item() + FEW * eps * size
        if truncated:
            allowed += torch.finfo(ours.dtype).eps * truth.norm().item()
        error = (ours.double() - truth).norm().item()
        # Not error / allowed <= 1 alone: NaN has to fail, and 0 of 0 has to pass.
        ratios.append(0.0 if error == 0 else error / allowed if allowed > 0 else math.inf)
    return ratios[0], ratios[1]


def assert_at_most_twice_plain(
    got: tuple[Tensor, Tensor],
    plain: tuple[Tensor, Tensor],
    true: tuple[Tensor, Tensor],
    size_of_gradient: float,
    truncated: bool = False,
    *,
    aim: bool = False,
) -> None:
    """``aim``: tell hypothesis, which then looks for worse, and names the worst in its statistics."""
    of_loss, of_gradient = twice_plain(got, plain, true, size_of_gradient, truncated)
    if aim:
        target(of_loss, label="error of the loss / what it may be")
        target(of_gradient, label="error of the gradient / what it may be")
    assert of_loss <= 1, f"loss: {of_loss:.3g} of what its error may be"
    assert of_gradient <= 1, f"gradient: {of_gradient:.3g} of what its error may be"


def truncates(backend: str, x: Tensor) -> bool:
    """Triton's interpreter cuts off what bfloat16 does not hold, where a GPU and torch round: one rounding more."""
    return backend.startswith("triton") and x.device.type == "cpu" and x.dtype == torch.bfloat16
