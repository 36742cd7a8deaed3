"""How near to the truth the operator has to come, and the comparison itself."""

from __future__ import annotations

import torch
from kernels_truth import truth
from torch import Tensor

from dainv_kernels import Groups, invariance_loss

LOSS = 2e-6  # in float32, as are the next two; 17 roundings
GRADIENT = 2e-5
GRADIENT_OF_HARD_DATA = 1e-4  # where the input has lost digits to a large mean

# Large enough that gradients in half precision are normal numbers, as a gradient scaler would make them.
UPSTREAM = -37.25

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def result_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def scaled_to(bound: float, dtype: torch.dtype) -> float:
    """The same number of roundings in another dtype."""
    return bound * torch.finfo(dtype).eps / torch.finfo(torch.float32).eps


def loss_bound(dtype: torch.dtype) -> float:
    return scaled_to(LOSS, result_dtype(dtype))


def gradient_bound(dtype: torch.dtype, bound: float = GRADIENT) -> float:
    """Halves: their own rounding of the result (Triton's interpreter truncates to bfloat16) drowns the arithmetic's."""
    if dtype in (torch.float16, torch.bfloat16):
        return 2 * torch.finfo(dtype).eps
    return scaled_to(bound, dtype)


def relative_error(got: Tensor, true: Tensor) -> float:
    """Norm of the difference as a ratio to the norm of the truth; NaN unless both are finite and the truth not 0."""
    got = got.detach().cpu().to(torch.float64)
    assert got.shape == true.shape
    return ((got - true).norm() / true.norm()).item()


def evaluate(
    features: Tensor, groups: Tensor | Groups, backend: str, normalization: str = "pairs", upstream: float = UPSTREAM
) -> tuple[Tensor, Tensor]:
    """The operator's loss, and upstream times its gradient with respect to the features."""
    x = features.detach().requires_grad_()  # the same memory, whatever its layout
    loss = invariance_loss(x, groups, normalization=normalization, backend=backend)
    (gradient,) = torch.autograd.grad(loss, x, torch.full_like(loss, upstream))
    return loss.detach(), gradient


def assert_near(
    got: tuple[Tensor, Tensor], true: tuple[Tensor, Tensor], dtype: torch.dtype, gradient: float = GRADIENT
) -> None:
    """Compare (loss, gradient) with the truth; ``gradient`` is the bound in float32."""
    assert relative_error(got[0], true[0]) <= loss_bound(dtype)
    assert relative_error(got[1], true[1]) <= gradient_bound(dtype, gradient)


def assert_true(
    features: Tensor,
    ids: Tensor,
    backend: str,
    normalization: str = "pairs",
    groups: Groups | None = None,
    gradient: float = GRADIENT,
) -> None:
    """Compare the operator with the truth, forward and backward; ``gradient`` is the bound in float32."""
    got = evaluate(features, ids if groups is None else groups, backend, normalization)
    assert_near(got, truth(features, ids, normalization, UPSTREAM), features.dtype, gradient)
