"""Every backend against brute force over pairs: forward, and backward with an upstream gradient, on ordinary data."""

from __future__ import annotations

import pytest
import torch
from kernels_checks import DTYPES, assert_near, assert_true, evaluate, result_dtype
from kernels_inputs import CONSECUTIVE, PARTITIONS, D, consecutive_groups, grouped, ids_of_sizes, noise, shuffled
from kernels_truth import truth

from dainv_kernels import Groups, invariance_loss

normalizations = pytest.mark.parametrize("normalization", ["pairs", "printed"])


@normalizations
@pytest.mark.parametrize("partition", PARTITIONS)
def test_any_partition(backend: str, device: torch.device, normalization: str, partition: str) -> None:
    ids = PARTITIONS[partition]
    assert_true(grouped(ids, D).float().to(device), ids.to(device), backend, normalization)


@pytest.mark.parametrize("features", [1, 31, 64, 97, 640])
def test_any_number_of_features(backend: str, device: torch.device, features: int) -> None:
    x = grouped(CONSECUTIVE, features).float().to(device)
    assert_true(x, CONSECUTIVE.to(device), backend, groups=consecutive_groups(device))


@normalizations
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_consecutive_groups(backend: str, device: torch.device, dtype: torch.dtype, normalization: str) -> None:
    x = grouped(CONSECUTIVE, D).to(device, dtype)
    assert_true(x, CONSECUTIVE.to(device), backend, normalization, groups=consecutive_groups(device))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_any_dtype(backend: str, device: torch.device, dtype: torch.dtype) -> None:
    ids = PARTITIONS["ragged-shuffled"]
    assert_true(grouped(ids, D).to(device, dtype), ids.to(device), backend)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_result_is_one_number_and_the_gradient_has_the_dtype_of_the_features(
    backend: str, device: torch.device, dtype: torch.dtype
) -> None:
    loss, gradient = evaluate(grouped(CONSECUTIVE, 3).to(device, dtype), CONSECUTIVE.to(device), backend)
    assert loss.shape == ()
    assert loss.dtype == result_dtype(dtype)
    assert loss.device == gradient.device
    assert gradient.dtype == dtype


def test_published_batch_of_sixteen_images_with_eight_views(backend: str, device: torch.device) -> None:
    ids = torch.arange(16).repeat_interleave(8)
    x = grouped(ids, 12, 4, 4).float().to(device)
    assert_true(x, ids.to(device), backend, groups=Groups.consecutive(16, 8, device=device))


@pytest.mark.parametrize("groups", [17, 33, 130])
def test_more_groups_than_one_block_holds(backend: str, device: torch.device, groups: int) -> None:
    ids = shuffled(torch.arange(groups).repeat_interleave(2))
    assert_true(grouped(ids, 5).float().to(device), ids.to(device), backend)


@pytest.mark.parametrize("sizes", [(2,) * 9 + (40,), (40,) + (2,) * 9, (1,) * 20 + (3,)], ids=str)
def test_groups_of_very_different_size_in_one_block(backend: str, device: torch.device, sizes: tuple[int, ...]) -> None:
    ids = ids_of_sizes(*sizes)
    assert_true(grouped(ids, 33).float().to(device), ids.to(device), backend)


@pytest.mark.parametrize("upstream", noise(4, seed=9).tolist())
def test_gradient_follows_a_random_upstream_gradient(backend: str, device: torch.device, upstream: float) -> None:
    x, ids = grouped(CONSECUTIVE, D).float().to(device), CONSECUTIVE.to(device)
    assert_near(evaluate(x, ids, backend, upstream=upstream), truth(x, ids, upstream=upstream), x.dtype)


def test_features_are_left_as_they_were(backend: str, device: torch.device) -> None:
    x = grouped(CONSECUTIVE, D).float().to(device)
    before = x.clone()
    evaluate(x, shuffled(CONSECUTIVE).to(device), backend)
    assert torch.equal(x, before)


def test_no_gradient_is_asked_for_where_none_is_wanted(backend: str, device: torch.device) -> None:
    x, ids = grouped(CONSECUTIVE, D).float().to(device), CONSECUTIVE.to(device)
    assert not invariance_loss(x, ids, backend=backend).requires_grad
    x.requires_grad_()
    with torch.no_grad():
        assert not invariance_loss(x, ids, backend=backend).requires_grad
    with torch.inference_mode():
        in_inference_mode = invariance_loss(x, ids, backend=backend).item()
    assert in_inference_mode == evaluate(x, ids, backend)[0].item()
