"""Batches with nothing to compare, and features that are no numbers."""

from __future__ import annotations

import pytest
import torch
from kernels_checks import DTYPES, evaluate
from kernels_inputs import CONSECUTIVE, PARTITIONS, B, D, K, M, consecutive_groups, grouped, noise, shuffled
from kernels_truth import truth
from torch import Tensor

from dainv_kernels import Groups, invariance_loss

normalizations = pytest.mark.parametrize("normalization", ["pairs", "printed"])
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def assert_exactly_zero(result: tuple[Tensor, Tensor]) -> None:
    loss, gradient = result
    assert loss.item() == 0
    assert torch.count_nonzero(gradient) == 0  # NaN counts as nonzero


@normalizations
@pytest.mark.parametrize("kind", ["ids", "consecutive"])
def test_groups_of_one_have_no_loss_and_no_gradient(
    backend: str, device: torch.device, normalization: str, kind: str
) -> None:
    groups = Groups.consecutive(B, 1, device=device) if kind == "consecutive" else torch.arange(B, device=device)
    assert_exactly_zero(evaluate(noise(B, D).float().to(device), groups, backend, normalization))


@normalizations
def test_two_samples_of_two_groups(backend: str, device: torch.device, normalization: str) -> None:
    x = noise(2, D).float().to(device)
    assert_exactly_zero(evaluate(x, torch.tensor([4, -4], device=device), backend, normalization))


@dtypes
@pytest.mark.parametrize("value", [0.0, 0.1, -1e4])
def test_a_constant_layer_has_no_loss_and_no_gradient(
    backend: str, device: torch.device, dtype: torch.dtype, value: float
) -> None:
    x = torch.full((B, D), value, dtype=dtype, device=device)
    assert_exactly_zero(evaluate(x, shuffled(CONSECUTIVE).to(device), backend))


# Of both dtypes: T is just too small to be told from 0, and next to nothing.
@pytest.mark.parametrize(("dtype", "size"), [(torch.float32, 1e-22), (torch.float32, 1e-40), (torch.float64, 1e-157)])
def test_squares_that_are_no_normal_numbers_count_as_nothing(
    backend: str, device: torch.device, dtype: torch.dtype, size: float
) -> None:
    ids = shuffled(CONSECUTIVE).to(device)
    x = (noise(B, D) * size).to(device, dtype)
    assert_exactly_zero(evaluate(x, ids, backend))
    assert_exactly_zero(evaluate(x, consecutive_groups(device), backend))
    x.requires_grad_()
    loss = invariance_loss(x, ids, backend=backend)
    (gradient,) = torch.autograd.grad(loss, x, create_graph=True)
    assert_exactly_zero((loss.detach(), gradient.detach()))


@pytest.mark.parametrize(("dtype", "size"), [(torch.float32, 2.0**-60), (torch.float64, 2.0**-500)])
def test_squares_that_are_small_but_normal_numbers_count(
    backend: str, device: torch.device, dtype: torch.dtype, size: float
) -> None:
    x = grouped(CONSECUTIVE, D).to(device, dtype) * size
    expected = truth(x.cpu().double() / size, CONSECUTIVE)[0]  # the loss has no unit
    assert abs(evaluate(x, CONSECUTIVE.to(device), backend)[0].item() / expected.item() - 1) <= 1e-5


@pytest.mark.parametrize("size", [1e-20, 1e-21, 1e-22, 1e-23])
def test_no_loss_is_negative_where_squares_within_groups_are_nothing(
    backend: str, device: torch.device, size: float
) -> None:
    x = grouped(CONSECUTIVE, D).float().to(device) * size
    x[:M] += 1e-10  # so that the batch is not constant
    loss, gradient = evaluate(x, CONSECUTIVE.to(device), backend)
    assert 0 <= loss <= 1e-12
    assert gradient.isfinite().all()


@normalizations
@pytest.mark.parametrize("expanded", [True, False])
def test_identical_samples_have_no_loss_and_no_gradient(
    backend: str, device: torch.device, expanded: bool, normalization: str
) -> None:
    x = noise(1, D).float().to(device).expand(B, D)
    x = x if expanded else x.contiguous()
    assert_exactly_zero(evaluate(x, consecutive_groups(device), backend, normalization))


@normalizations
@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_perfect_invariance_has_no_loss_and_no_gradient(
    backend: str, device: torch.device, normalization: str, offset: float
) -> None:
    ids = shuffled(CONSECUTIVE)
    x = (offset + noise(K, D))[ids].float().to(device)
    loss, gradient = evaluate(x, ids.to(device), backend, normalization, upstream=1.0)
    assert loss.item() == 0
    # Explicit pairs cancel up to rounding, of what a gradient is made of: 2 / T times deviations from the mean.
    deviations = x.double() - x.double().mean(0)
    assert gradient.double().norm() <= 2e-5 * 2 * deviations.norm() / deviations.square().sum()


# First of the batch, first of a group, inside a group, last of the batch; CONSECUTIVE has groups of M.
@pytest.mark.parametrize("row", [0, M, M + 3, B - 1])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_one_bad_feature_makes_the_loss_nan(backend: str, device: torch.device, value: float, row: int) -> None:
    x = noise(B, D).float().to(device)
    x[row, D // 2] = value
    assert invariance_loss(x, CONSECUTIVE.to(device), backend=backend).isnan()
    assert invariance_loss(x, consecutive_groups(device), backend=backend).isnan()


@normalizations
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("partition", ["singles", "ragged", "one group"])
def test_a_bad_feature_of_a_group_of_one_is_not_hidden(
    backend: str, device: torch.device, value: float, partition: str, normalization: str
) -> None:
    # Its group has weight 0 in the numerator, or there is no group of more than one at all.
    ids = {"singles": torch.arange(B), "one group": torch.zeros(B, dtype=torch.int64), "ragged": PARTITIONS["ragged"]}
    for row in (0, -1):  # the last group of the batch meets no other: infinity would stay what it is
        x = noise(B, D).float().to(device)
        x[row, 0] = value
        loss = invariance_loss(x, ids[partition].to(device), normalization=normalization, backend=backend)
        assert loss.isnan()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_bad_features_of_a_constant_layer_are_not_hidden(backend: str, device: torch.device, value: float) -> None:
    # T = 0 is the one case that is answered with 0 by definition; neither NaN nor inf may be taken for it.
    assert invariance_loss(torch.full((B, D), value, device=device), CONSECUTIVE.to(device), backend=backend).isnan()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_the_gradient_of_a_bad_feature_is_not_a_number_either(backend: str, device: torch.device, value: float) -> None:
    x = noise(B, D).float().to(device)
    x[M + 3, 2] = value
    _, gradient = evaluate(x, CONSECUTIVE.to(device), backend)
    assert gradient.isnan().any()
