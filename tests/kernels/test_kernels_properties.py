"""What Eq. 3 promises whatever the numbers are."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernels_checks import assert_near, assert_true, evaluate
from kernels_inputs import CONSECUTIVE, PARTITIONS, B, D, K, M, grouped, noise, shuffled
from kernels_truth import truth

from dainv_kernels import Groups, invariance_loss


@pytest.mark.parametrize("partition", ["consecutive", "ragged-shuffled"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_gradients_of_the_samples_cancel(
    backend: str, device: torch.device, dtype: torch.dtype, partition: str
) -> None:
    # The loss does not change when all samples move together.
    ids = PARTITIONS[partition]
    _, gradient = evaluate(grouped(ids, D).to(device, dtype), ids.to(device), backend)
    bound = 2e-5 if dtype == torch.float32 else 4e-14
    assert gradient.double().sum(0).norm() <= bound * gradient.double().norm()


def test_adding_a_constant_to_every_sample_changes_nothing(backend: str, device: torch.device) -> None:
    x = (grouped(CONSECUTIVE, D) * 2**8).round() / 2**8  # so that the sum is exact
    ids = CONSECUTIVE.to(device)
    moved = evaluate((x + 1024).float().to(device), ids, backend, upstream=1.0)
    assert_near(moved, truth(x, CONSECUTIVE), torch.float32)


@pytest.mark.parametrize("scale", [-3.0, 1e-3, 7e4])
def test_loss_has_no_unit(backend: str, device: torch.device, scale: float) -> None:
    x, ids = grouped(CONSECUTIVE, D).to(device), CONSECUTIVE.to(device)
    expected = invariance_loss(x, ids, backend=backend).item()
    assert invariance_loss(scale * x, ids, backend=backend).item() == pytest.approx(expected, rel=4e-15)


def test_order_of_the_samples_does_not_matter(backend: str, device: torch.device) -> None:
    x, ids = grouped(CONSECUTIVE, D), CONSECUTIVE
    order = torch.randperm(B)
    expected = truth(x, ids)
    got = evaluate(x[order].to(device), ids[order].to(device), backend, upstream=1.0)
    assert_near(got, (expected[0], expected[1][order]), torch.float64)


def test_names_of_the_groups_do_not_matter(backend: str, device: torch.device) -> None:
    x, ids = grouped(CONSECUTIVE, D).to(device), shuffled(CONSECUTIVE).to(device)
    renamed = torch.tensor([3, -9, 100, 7, 12, 0, -(2**50), 5], device=device)[ids]
    expected = truth(x, ids)
    assert_near(evaluate(x, renamed, backend, upstream=1.0), expected, torch.float64)


@pytest.mark.parametrize(("groups", "views"), [(2, 4), (2, 32), (8, 2), (16, 8), (32, 2)])
def test_pairs_is_about_one_without_structure_whatever_the_batch(
    backend: str, device: torch.device, groups: int, views: int
) -> None:
    x = noise(groups * views, 2000).float().to(device)
    loss = invariance_loss(x, Groups.consecutive(groups, views, device=device), backend=backend)
    # A mean over 2000 features and at least 8 pairs of a variable with deviation sqrt(2): 0.01 is its deviation.
    assert loss.item() == pytest.approx(1, abs=0.05)


def test_printed_is_pairs_times_what_the_closed_forms_say(backend: str, device: torch.device) -> None:
    x, ids = grouped(CONSECUTIVE, D).to(device), CONSECUTIVE.to(device)
    pairs = invariance_loss(x, ids, normalization="pairs", backend=backend).item()
    printed = invariance_loss(x, ids, normalization="printed", backend=backend).item()
    assert printed == pytest.approx(pairs * K * (B - K) / (B - 1), rel=4e-15)


def test_closed_form_by_sums_of_squares(backend: str, device: torch.device) -> None:
    x = grouped(CONSECUTIVE, D)
    within = sum((x[k * M : (k + 1) * M] - x[k * M : (k + 1) * M].mean(0)).square().sum() for k in range(K))
    total = (x - x.mean(0)).square().sum()
    loss = invariance_loss(x.to(device), CONSECUTIVE.to(device), backend=backend).item()
    assert loss == pytest.approx(((B - 1) / (B - K) * within / total).item(), rel=1e-13)


@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ids=st.lists(st.integers(-3, 12), min_size=2, max_size=40),
    features=st.integers(1, 70),
    normalization=st.sampled_from(["pairs", "printed"]),
    seed=st.integers(0, 1000),
)
def test_any_batch_is_as_by_brute_force(
    backend: str, device: torch.device, ids: list[int], features: int, normalization: str, seed: int
) -> None:
    x, groups = noise(len(ids), features, seed=seed).float().to(device), torch.tensor(ids, device=device)
    sizes = groups.unique(return_counts=True)[1]
    if len(sizes) in (1, len(ids)):  # the loss is 1 or 0 and its gradient 0: no ratio; tests of their own
        return
    assert_true(x, groups, backend, normalization)
