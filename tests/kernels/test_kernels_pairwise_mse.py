"""Eq. 1 for all pairs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from conftest import runs_triton_on
from kernels_checks import DTYPES, gradient_bound, loss_bound, relative_error, result_dtype
from kernels_inputs import noise
from kernels_truth import pair_distances
from torch import Tensor

from dainv_kernels import pairwise
from dainv_kernels import pairwise_mse as pairwise_mse_by

INPUTS = {
    "rows": noise(11, 97),
    "images": noise(11, 6, 5, 4),
    "images, channels last": noise(11, 6, 5, 4).contiguous(memory_format=torch.channels_last),
    "a mean a thousand times the noise": 1e3 + noise(11, 97),
    "one feature": noise(11, 1),
    "one sample": noise(1, 5),
    "more columns than are taken at a time": noise(128, 2100),
}


@pytest.fixture(params=["reference", "triton-pairwise"])
def pairwise_mse(request: pytest.FixtureRequest, device: torch.device) -> Callable[[Tensor], Tensor]:
    if request.param == "triton-pairwise" and (reason := runs_triton_on(device)):
        pytest.skip(reason)
    return partial(pairwise_mse_by, backend=request.param)


@pytest.fixture(params=INPUTS)
def features(request: pytest.FixtureRequest, device: torch.device) -> Tensor:
    return INPUTS[request.param].float().to(device)


def test_distances_are_as_by_brute_force(pairwise_mse: Callable[[Tensor], Tensor], features: Tensor) -> None:
    if len(features) == 1:
        assert pairwise_mse(features).tolist() == [[0.0]]
    else:
        assert relative_error(pairwise_mse(features), pair_distances(features.double().cpu())) <= 2e-6


def test_diagonal_is_exactly_zero_and_the_matrix_exactly_symmetric(
    pairwise_mse: Callable[[Tensor], Tensor], features: Tensor
) -> None:
    distances = pairwise_mse(features)
    assert distances.shape == (len(features), len(features))
    assert torch.count_nonzero(distances.diagonal()) == 0
    assert torch.equal(distances, distances.T)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_any_dtype_forward_and_backward(
    pairwise_mse: Callable[[Tensor], Tensor], device: torch.device, dtype: torch.dtype
) -> None:
    x = noise(11, 97).to(device, dtype).requires_grad_()
    upstream = 64 * noise(11, 11, seed=1)  # not symmetric, as nothing says that it has to be
    distances = pairwise_mse(x)
    (gradient,) = torch.autograd.grad(distances, x, upstream.to(distances))
    exact = x.detach().cpu().double().requires_grad_()
    true = pair_distances(exact)
    (true_gradient,) = torch.autograd.grad(true, exact, upstream.to(distances.dtype).double())
    assert distances.dtype == result_dtype(dtype)
    assert gradient.dtype == dtype
    assert relative_error(distances, true.detach()) <= loss_bound(dtype)
    assert relative_error(gradient, true_gradient) <= gradient_bound(dtype)


def test_identical_samples_at_any_distance_from_zero_have_distance_zero(
    pairwise_mse: Callable[[Tensor], Tensor], device: torch.device
) -> None:
    x = (1e4 + noise(3, 97)).float()[torch.tensor([0, 1, 2, 1, 0])].to(device)
    distances = pairwise_mse(x)
    assert distances[0, 4] == distances[1, 3] == 0
    assert distances[0, 1] > 0


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_bad_features_are_not_hidden(
    pairwise_mse: Callable[[Tensor], Tensor], device: torch.device, value: float
) -> None:
    x = noise(5, 7).to(device)
    x[2, 3] = value
    assert not pairwise_mse(x)[2].isfinite().any()


def test_gradcheck_and_gradgradcheck(pairwise_mse: Callable[[Tensor], Tensor], device: torch.device) -> None:
    x = noise(5, 3).to(device).requires_grad_()
    assert torch.autograd.gradcheck(pairwise_mse, x)
    assert torch.autograd.gradgradcheck(pairwise_mse, x)


def test_gradient_comes_back_in_the_layout_of_the_features(
    pairwise_mse: Callable[[Tensor], Tensor], device: torch.device
) -> None:
    x = INPUTS["images, channels last"].float().to(device).requires_grad_()
    (gradient,) = torch.autograd.grad(pairwise_mse(x).sum(), x)
    assert gradient.stride() == x.stride()


def test_operators_are_registered_soundly(device: torch.device) -> None:
    if reason := runs_triton_on(device):
        pytest.skip(reason)
    x = noise(5, 3, 2).float().to(device)
    torch.library.opcheck(pairwise.operator, (x.requires_grad_(),))
    torch.library.opcheck(pairwise.operator_backward, (noise(5, 5).float().to(device), x.detach()))


def test_a_backend_without_pairs_is_refused() -> None:
    with pytest.raises(ValueError, match=r"backend.*'triton-pairwise'.*'torch'"):
        pairwise_mse_by(noise(3, 2), backend="torch")
