"""What Eq. 3 promises whatever the numbers are."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from kernels_checks import assert_near, evaluate
from kernels_inputs import CONSECUTIVE, B, D, K, M, grouped, noise, shuffled
from kernels_plain import Plain, assert_at_most_twice_plain, plain_loss, power_of_two_near, truncates
from kernels_strategies import LAYOUTS, Case, batches, cases
from kernels_truth import truth

from dainv_kernels import Groups, invariance_loss, relu_invariance

WIDE = (torch.float32, torch.float64)


def conditioned(case: Case, x: torch.Tensor) -> tuple[float, float]:
    """Upstream gradient that makes the gradients numbers near 1, and the norm of what they are the difference of."""
    size = Plain.of(x.detach().double(), case.id_tensor(), case.normalization).size_of_gradient()
    upstream = power_of_two_near(x.numel() ** 0.5 / size if size else 1.0)
    return upstream, size * upstream


@cases(normally=30)
@given(case=batches())
def test_no_batch_costs_more_than_twice_the_digits_that_plain_torch_loses(
    backend: str, device: torch.device, case: Case
) -> None:
    x, ids = case.features(device), case.id_tensor()
    upstream, size = conditioned(case, x)
    true = truth(x, ids, case.normalization, upstream)
    got = evaluate(x, case.groups(device), backend, case.normalization, upstream)
    peer = x.detach().requires_grad_()
    loss = plain_loss(peer, ids, case.normalization)
    plain = (loss, torch.autograd.grad(loss * upstream, peer)[0])
    assert_at_most_twice_plain(got, plain, true, size, truncates(backend, x), aim=True)


@cases(normally=20)
@given(case=batches())
def test_no_batch_costs_more_than_twice_the_digits_of_plain_torch_after_relu(
    backend: str, device: torch.device, case: Case
) -> None:
    assert_no_worse_after_relu(case, backend, device, aim=True)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_layout_costs_digits_after_relu(backend: str, device: torch.device, layout: str) -> None:
    ids = (0, 1, 1, 0, 2, 1)
    case = Case(ids, (3, 4, 2), torch.float32, layout, "pairs", offset=0.0, spread=1.0, scale=0, seed=0)
    assert_no_worse_after_relu(case, backend, device)


def assert_no_worse_after_relu(case: Case, backend: str, device: torch.device, *, aim: bool = False) -> None:
    x, ids = case.features(device), case.id_tensor()
    upstream, size = conditioned(case, x.relu())
    of_activation = noise(*x.shape, seed=case.seed).to(x)
    true_loss, of_loss = truth(x.relu(), ids, case.normalization, upstream)
    true = (true_loss, (of_loss + of_activation.cpu().double()) * (x > 0).cpu())

    def differentiated(z: torch.Tensor, y: torch.Tensor, loss: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return loss, torch.autograd.grad((y, loss), z, (of_activation, torch.full_like(loss, upstream)))[0]

    z = x.detach().requires_grad_()
    y, loss = relu_invariance(z, case.groups(device), normalization=case.normalization, backend=backend)
    assert torch.equal(y, x.relu())
    got = differentiated(z, y, loss)
    peer = x.detach().requires_grad_()
    activation = peer.relu()
    plain = differentiated(peer, activation, plain_loss(activation, ids, case.normalization))
    size += of_activation.double().norm().item()
    assert_at_most_twice_plain(got, plain, true, size, truncates(backend, x), aim=aim)


@cases(normally=12)
@given(case=batches())
def test_two_runs_give_the_same_bits_whatever_the_batch(backend: str, device: torch.device, case: Case) -> None:
    runs = [evaluate(case.features(device), case.groups(device), backend) for _ in range(2)]
    for first, second in zip(*runs, strict=True):
        assert torch.equal(first, second)


@cases(normally=12)
@given(case=batches(dtypes=(torch.bfloat16, *WIDE)))  # float16 has too few exponents
def test_a_unit_that_is_a_power_of_two_changes_no_bit(backend: str, device: torch.device, case: Case) -> None:
    groups = case.groups(device)
    x = replace(case, scale=0).features(device)
    scaled = case.features(device)
    assert torch.equal(scaled, x * 2.0**case.scale)
    expected, of_expected = evaluate(x, groups, backend, case.normalization, upstream=1.0)
    got, of_got = evaluate(scaled, groups, backend, case.normalization, upstream=2.0**case.scale)
    assert torch.equal(got, expected)
    assert torch.equal(of_got, of_expected)


@cases(normally=12)
@given(case=batches(dtypes=WIDE))
def test_gradients_of_the_samples_cancel(backend: str, device: torch.device, case: Case) -> None:
    # The loss does not change when all samples move together. Rounding errors of B numbers do not cancel; those of a
    # backward pass folded into a * f + b are the same in all samples and add up to B of them, times the offset.
    x = case.features(device)
    upstream, size = conditioned(case, x)
    _, gradient = evaluate(x, case.groups(device), backend, case.normalization, upstream)
    bound = 8 * torch.finfo(x.dtype).eps * size * len(x) ** 0.5
    assert gradient.double().sum(0).norm().item() <= bound


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
