"""The kernels of the backend "triton-pairwise", called as they are: tiles of pairs, in values and in derivatives."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from kernels_checks import (
    DTYPES,
    GRADIENT,
    GRADIENT_OF_HARD_DATA,
    UPSTREAM,
    assert_near,
    gradient_bound,
    loss_bound,
    relative_error,
    result_dtype,
)
from kernels_inputs import CONSECUTIVE, PARTITIONS, B, D, K, M, consecutive_groups, grouped, noise, shuffled
from kernels_truth import pair_distances, truth
from torch import Tensor

from dainv_kernels import Groups
from dainv_kernels.implementation import Gradient, Relu

normalizations = pytest.mark.parametrize("normalization", ["pairs", "printed"])
kinds = pytest.mark.parametrize("kind", ["consecutive", "ids"])
bad_values = pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])


@pytest.fixture
def kernels(triton: str) -> ModuleType:
    from dainv_kernels.gpu import pairwise

    return pairwise


@pytest.fixture
def small_tiles(kernels: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many tiles and several splits of the columns in batches that are small enough for the interpreter."""

    def shrunk(launch: Callable[[Tensor], dict[str, Any]], **sizes: int) -> Callable[[Tensor], dict[str, Any]]:
        return lambda rows: {**launch(rows), **sizes}

    monkeypatch.setattr(kernels, "_STEPS", 2)
    monkeypatch.setattr(kernels, "_pair_launch", shrunk(kernels._pair_launch, BLOCK=32, BLOCK_D=16))
    monkeypatch.setattr(kernels, "_gradient_launch", shrunk(kernels._gradient_launch, BLOCK=32, BLOCK_D=64))


def evaluate(
    kernels: ModuleType, x: Tensor, groups: Groups, normalization: str = "pairs", upstream: float = UPSTREAM
) -> tuple[Tensor, Tensor]:
    segments = groups.segments(normalization)
    loss, sums, mean_offset = kernels.forward(x, segments)
    gradient = torch.full(x.shape, float("nan"), dtype=x.dtype, device=x.device)
    kernels.backward(x, segments, sums, mean_offset, Gradient(torch.full_like(loss, upstream), gradient))
    assert loss.dtype == result_dtype(x.dtype)
    return loss, gradient


def assert_true(
    kernels: ModuleType,
    x: Tensor,
    ids: Tensor,
    normalization: str = "pairs",
    groups: Groups | None = None,
    gradient: float = GRADIENT,
) -> None:
    groups = Groups.from_ids(ids.to(x.device)) if groups is None else groups
    got = evaluate(kernels, x, groups, normalization)
    assert_near(got, truth(x, ids, normalization, UPSTREAM), x.dtype, gradient)


@normalizations
@pytest.mark.parametrize("partition", PARTITIONS)
def test_any_partition(kernels: ModuleType, device: torch.device, partition: str, normalization: str) -> None:
    ids = PARTITIONS[partition]
    assert_true(kernels, grouped(ids, D).float().to(device), ids, normalization)


@normalizations
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_consecutive_groups_of_any_dtype(
    kernels: ModuleType, device: torch.device, dtype: torch.dtype, normalization: str
) -> None:
    x = grouped(CONSECUTIVE, D).to(device, dtype)
    assert_true(kernels, x, CONSECUTIVE, normalization, consecutive_groups(device))


@pytest.mark.usefixtures("small_tiles")
@kinds
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_many_tiles(kernels: ModuleType, device: torch.device, dtype: torch.dtype, kind: str) -> None:
    # Two blocks of samples and three splits of the columns, the last ones short.
    ids = CONSECUTIVE if kind == "consecutive" else PARTITIONS["ragged-shuffled"]
    groups = consecutive_groups(device) if kind == "consecutive" else None
    assert_true(kernels, grouped(ids, D).to(device, dtype), ids, groups=groups)


@pytest.mark.parametrize("features", [1, 31, 64, 640])
@pytest.mark.parametrize("batch", [3, 7, 65])
def test_any_shape(kernels: ModuleType, device: torch.device, batch: int, features: int) -> None:
    ids = shuffled(torch.arange(batch) * 2 // 3)
    assert_true(kernels, noise(batch, features).float().to(device), ids)


def test_a_batch_of_many_blocks(kernels: ModuleType, device: torch.device) -> None:
    ids = shuffled(torch.arange(200) // 7)
    assert_true(kernels, grouped(ids, 33).float().to(device), ids)


@kinds
def test_groups_of_one_have_no_loss_and_no_gradient(kernels: ModuleType, device: torch.device, kind: str) -> None:
    groups = Groups.consecutive(B, 1, device) if kind == "consecutive" else Groups.from_ids(torch.arange(B).to(device))
    for normalization in ("pairs", "printed"):
        loss, gradient = evaluate(kernels, noise(B, D).float().to(device), groups, normalization)
        assert loss == 0
        assert torch.count_nonzero(gradient) == 0


@normalizations
def test_one_group_has_the_loss_of_the_batch(kernels: ModuleType, device: torch.device, normalization: str) -> None:
    x = noise(B, D).float().to(device)
    loss, gradient = evaluate(kernels, x, Groups.consecutive(1, B, device), normalization, upstream=1.0)
    assert abs(loss.item() - 1) <= 2e-6
    deviations = x.double() - x.double().mean(0)  # of which both terms of the gradient consist; they cancel
    assert gradient.double().norm() <= 2e-5 * 2 * deviations.norm() / deviations.square().sum()


@normalizations
@pytest.mark.parametrize("partition", ["consecutive", "ragged-shuffled"])
def test_a_mean_a_thousand_times_the_noise(
    kernels: ModuleType, device: torch.device, partition: str, normalization: str
) -> None:
    x = (1e3 + noise(B, 640)).float().to(device)
    assert_true(kernels, x, PARTITIONS[partition], normalization, gradient=GRADIENT_OF_HARD_DATA)


def test_groups_a_million_times_wider_apart_than_they_are_wide(kernels: ModuleType, device: torch.device) -> None:
    x = (1e3 * grouped(CONSECUTIVE, D, spread=1e-6)).float().to(device)
    assert_true(kernels, x, CONSECUTIVE, gradient=GRADIENT_OF_HARD_DATA)


def test_identical_views_have_exactly_no_loss_and_no_gradient(kernels: ModuleType, device: torch.device) -> None:
    ids = shuffled(CONSECUTIVE)
    x = (1e3 + noise(K, D))[ids].float().to(device)
    loss, gradient = evaluate(kernels, x, Groups.from_ids(ids.to(device)))
    assert loss == 0
    assert torch.count_nonzero(gradient) == 0


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_constant_layer_has_no_loss_and_no_gradient(
    kernels: ModuleType, device: torch.device, dtype: torch.dtype
) -> None:
    x = torch.full((B, D), -0.1, dtype=dtype, device=device)
    loss, gradient = evaluate(kernels, x, consecutive_groups(device))
    assert loss == 0
    assert torch.count_nonzero(gradient) == 0


@bad_values
@pytest.mark.parametrize("row", [0, M + 3, B - 1])
def test_one_bad_feature_makes_loss_and_gradient_nan(
    kernels: ModuleType, device: torch.device, value: float, row: int
) -> None:
    x = noise(B, D).float().to(device)
    x[row, D // 2] = value
    loss, gradient = evaluate(kernels, x, consecutive_groups(device))
    assert loss.isnan()
    assert gradient.isnan().all()


@bad_values
@normalizations
def test_a_bad_feature_of_a_group_of_one_is_not_hidden(
    kernels: ModuleType, device: torch.device, value: float, normalization: str
) -> None:
    x = noise(B, D).float().to(device)
    x[0, 0] = value
    for ids in (torch.arange(B), PARTITIONS["ragged"]):
        assert kernels.forward(x, Groups.from_ids(ids.to(device)).segments(normalization))[0].isnan()


def test_rows_at_any_distance_from_each_other(kernels: ModuleType, device: torch.device) -> None:
    x = torch.full((2 * B, D + 5), float("nan"), device=device)[::2, :D]
    x.copy_(grouped(CONSECUTIVE, D))
    assert x.stride() == (2 * (D + 5), 1)
    assert_true(kernels, x, CONSECUTIVE)
    assert relative_error(kernels.pairwise_mse(x), pair_distances(x.cpu().double())) <= loss_bound(x.dtype)
    one = x[:1].expand(B, D)
    assert torch.count_nonzero(kernels.pairwise_mse(one)) == 0


@pytest.mark.parametrize("with_bias", [False, True])
def test_relu_of_features_and_of_gradients(kernels: ModuleType, device: torch.device, with_bias: bool) -> None:
    # Rows of (pixels, channels) = (16, 6), the channels side by side.
    ids = PARTITIONS["ragged-shuffled"]
    x, segments = grouped(ids, 96).float().to(device), Groups.from_ids(ids.to(device)).segments("pairs")
    bias = noise(6, seed=3).float().to(device) if with_bias else None
    activation = torch.empty_like(x)
    loss, *for_backward = kernels.forward(x, segments, Relu(activation, bias, 1, 6))
    assert torch.equal(activation, (x if bias is None else x + bias.repeat(16)).relu())
    upstream = torch.full((B, 100), float("nan"), device=device)[:, :96]  # as the next layer may have left it
    upstream.copy_(noise(B, 96, seed=4))
    true_loss, true_gradient = truth(activation, ids, upstream=UPSTREAM)
    true_gradient = (true_gradient + upstream.cpu()) * (activation > 0).cpu()
    gradient = Gradient(torch.full_like(loss, UPSTREAM), upstream, upstream, relu=True)
    kernels.backward(activation, segments, *for_backward, gradient)
    assert_near((loss, upstream), (true_loss, true_gradient), x.dtype)


@pytest.mark.usefixtures("small_tiles")
def test_two_runs_give_the_same_bits(kernels: ModuleType, device: torch.device) -> None:
    ids = PARTITIONS["ragged-shuffled"]
    x, groups = grouped(ids, D).float().to(device), Groups.from_ids(ids.to(device))
    for first, second in zip(evaluate(kernels, x, groups), evaluate(kernels, x.clone(), groups), strict=True):
        assert torch.equal(first, second)
    assert torch.equal(kernels.pairwise_mse(x), kernels.pairwise_mse(x.clone()))


# Tiles of 32: one block to six, odd and even numbers of them, the last one full or not.
@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("batch", [1, 2, 32, 33, 70, 128, 157, 161])
def test_every_distance_is_written_once_and_mirrored(kernels: ModuleType, device: torch.device, batch: int) -> None:
    x = (1e3 + noise(batch, 5)).float().to(device)
    distances = torch.full((batch, batch), float("nan"), device=device)
    groups = Groups.from_ids(torch.zeros(batch, dtype=torch.int64, device=device))
    loss, *_ = kernels.forward(x, groups.segments("pairs"), distances=distances)
    assert torch.equal(distances, distances.T)
    assert torch.count_nonzero(distances.diagonal()) == 0
    assert torch.equal(distances, kernels.pairwise_mse(x))
    if batch > 1:
        assert relative_error(distances, pair_distances(x.cpu().double())) <= loss_bound(x.dtype)
        assert abs(loss.item() - 1) <= 2e-6


@pytest.mark.parametrize("shape", [(11, 1), (11, D), (70, 1100)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_distances_are_as_by_brute_force(
    kernels: ModuleType, device: torch.device, dtype: torch.dtype, shape: tuple[int, int]
) -> None:
    x = noise(*shape).to(device, dtype)
    distances = kernels.pairwise_mse(x)
    assert distances.dtype == result_dtype(dtype)
    assert torch.equal(distances, distances.T)
    assert relative_error(distances, pair_distances(x.cpu().double())) <= loss_bound(dtype)


@bad_values
def test_distances_of_a_bad_feature_are_not_hidden(kernels: ModuleType, device: torch.device, value: float) -> None:
    x = noise(70, 7).float().to(device)
    x[-1, 3] = value
    distances = kernels.pairwise_mse(x)
    assert not distances[-1].isfinite().any()
    assert not distances[:, -1].isfinite().any()
    assert distances[:-1, :-1].isfinite().all()


@pytest.mark.parametrize("shape", [(11, D), (129, 5)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_gradient_of_distances(
    kernels: ModuleType, device: torch.device, dtype: torch.dtype, shape: tuple[int, int]
) -> None:
    x = noise(*shape).to(device, dtype)
    upstream = (64 * noise(shape[0], shape[0], seed=1)).to(result_dtype(dtype))  # not symmetric
    gradient = kernels.pairwise_mse_backward(upstream.to(device), x)
    exact = x.cpu().double().requires_grad_()
    (true,) = torch.autograd.grad(pair_distances(exact), exact, upstream.double())
    assert gradient.dtype == dtype
    assert relative_error(gradient, true) <= gradient_bound(dtype)


@pytest.mark.usefixtures("small_tiles")
def test_gradient_of_the_sum_of_distances(kernels: ModuleType, device: torch.device) -> None:
    x = (1e3 + noise(37, D)).float().to(device)
    gradient = kernels.pairwise_mse_backward(torch.ones((), device=device).expand(37, 37), x)
    exact = x.cpu().double()
    assert relative_error(gradient, 4 * 37 / D * (exact - exact.mean(0))) <= GRADIENT


@pytest.mark.parametrize("n_pairs", [1, 10, 36, 1023, 1024, 32896])
@pytest.mark.parametrize("features", [1, 31, 32, 33, 640, 12288, 98304])
def test_splits_cover_the_columns_and_stay_few(kernels: ModuleType, n_pairs: int, features: int) -> None:
    n_splits, columns = kernels._splits(n_pairs, features, 32)
    assert columns % 32 == 0
    assert (n_splits - 1) * columns < features <= n_splits * columns
    assert n_splits * n_pairs <= max(n_pairs, 1024)


@pytest.mark.gpu
@pytest.mark.parametrize("device", ["cuda"], indirect=True)
def test_a_batch_of_thousands(kernels: ModuleType, device: torch.device) -> None:
    x = (1e2 + noise(4096, 97)).float().to(device)
    distances = kernels.pairwise_mse(x)
    true = torch.cdist(x.double(), x.double(), compute_mode="donot_use_mm_for_euclid_dist").square() / 97
    assert torch.equal(distances, distances.T)
    assert relative_error(distances, true.cpu()) <= loss_bound(x.dtype)
    groups = Groups.consecutive(512, 8, device)
    same = torch.eye(512, device=device).repeat_interleave(8, 0).repeat_interleave(8, 1)
    true_loss = ((true * same).sum() / (4096 * 7)) / (true.sum() / (4096 * 4095))
    assert relative_error(kernels.forward(x, groups.segments("pairs"))[0], true_loss.cpu()) <= loss_bound(x.dtype)
