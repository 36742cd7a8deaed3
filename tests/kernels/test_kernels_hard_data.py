"""Data on which a careless sum of squares loses its digits."""

from __future__ import annotations

import pytest
import torch
from kernels_checks import GRADIENT_OF_HARD_DATA, assert_near, assert_true, evaluate
from kernels_inputs import CONSECUTIVE, PARTITIONS, B, D, K, consecutive_groups, grouped, noise
from kernels_truth import truth

partitions = pytest.mark.parametrize("partition", ["consecutive", "shuffled", "ragged-shuffled"])
normalizations = pytest.mark.parametrize("normalization", ["pairs", "printed"])


@normalizations
@partitions
def test_a_mean_a_thousand_times_the_noise(
    backend: str, device: torch.device, partition: str, normalization: str
) -> None:
    ids = PARTITIONS[partition].to(device)
    x = (1e3 + noise(B, 640)).float().to(device)
    assert_true(x, ids, backend, normalization, gradient=GRADIENT_OF_HARD_DATA)


@partitions
def test_means_of_a_thousand_that_differ_from_feature_to_feature(
    backend: str, device: torch.device, partition: str
) -> None:
    ids = PARTITIONS[partition]
    x = (1e3 * noise(1, D, seed=5) + grouped(ids, D)).float().to(device)
    assert_true(x, ids.to(device), backend, gradient=GRADIENT_OF_HARD_DATA)


@partitions
def test_an_outlier_in_the_first_row(backend: str, device: torch.device, partition: str) -> None:
    # The first sample is the origin of everything: all others are then far from it.
    x = noise(B, D)
    x[0] *= 1e3
    assert_true(x.float().to(device), PARTITIONS[partition].to(device), backend)


def test_an_outlier_in_the_first_row_of_a_large_batch(backend: str, device: torch.device) -> None:
    # What is lost to an origin far from everything grows with the number of samples that are far from it.
    ids = torch.arange(512) // 8
    x = noise(512, D)
    x[0] *= 1e3
    assert_true(x.float().to(device), ids.to(device), backend)


def test_an_outlier_first_in_its_group(backend: str, device: torch.device) -> None:
    x = noise(B, D)
    x[14] *= 1e3
    assert_true(x.float().to(device), CONSECUTIVE.to(device), backend, groups=consecutive_groups(device))


@partitions
def test_groups_a_million_times_wider_apart_than_they_are_wide(
    backend: str, device: torch.device, partition: str
) -> None:
    ids = PARTITIONS[partition]
    x = (1e3 * grouped(ids, D, spread=1e-6)).float().to(device)
    assert_true(x, ids.to(device), backend, gradient=GRADIENT_OF_HARD_DATA)


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1e6, 1e12])
def test_any_unit_of_the_features(backend: str, device: torch.device, scale: float) -> None:
    x = (scale * grouped(CONSECUTIVE, D)).float().to(device)
    ids = CONSECUTIVE.to(device)
    # The gradient is in inverse units; scaled back, so that float32 holds its squares in the comparison.
    assert_near(evaluate(x, ids, backend, upstream=scale), truth(x, ids, upstream=scale), x.dtype)


def test_half_precision_does_not_overflow_in_squares(backend: str, device: torch.device) -> None:
    x = (1e4 * noise(B, D)).clamp(-6e4, 6e4).to(device, torch.float16)
    ids = CONSECUTIVE.to(device)
    assert_near(evaluate(x, ids, backend, upstream=1e6), truth(x, ids, upstream=1e6), x.dtype)


@normalizations
def test_one_group_has_the_loss_of_the_batch_and_no_gradient(
    backend: str, device: torch.device, normalization: str
) -> None:
    # W and T are the same sum: the loss is 1 wherever the samples are, so its two gradients cancel.
    x, ids = noise(B, D).float().to(device), torch.zeros(B, dtype=torch.int64, device=device)
    loss, gradient = evaluate(x, ids, backend, normalization, upstream=1.0)
    assert abs(loss.item() - 1) <= 2e-6
    deviations = x.double() - x.double().mean(0)
    of_either_term = 2 * deviations.norm() / deviations.square().sum()
    assert gradient.double().norm() <= 2e-5 * of_either_term


def test_number_of_groups_of_the_shared_inputs_is_no_special_case(backend: str, device: torch.device) -> None:
    # One sample fewer, so that the last group is short and K no longer divides B.
    x, ids = grouped(CONSECUTIVE, D)[:-1].float().to(device), CONSECUTIVE[:-1].to(device)
    assert len(ids) % K
    assert_true(x, ids, backend)
