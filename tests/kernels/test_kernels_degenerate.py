"""Batches with nothing to compare, and features that are no numbers."""

from __future__ import annotations

import pytest
import torch
from kernels_checks import DTYPES, evaluate
from kernels_inputs import CONSECUTIVE, PARTITIONS, B, D, K, M, consecutive_groups, noise, shuffled
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
    x = noise(B, D).float().to(device)
    x[0, 0] = value
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
