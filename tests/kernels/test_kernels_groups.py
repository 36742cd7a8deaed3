"""Groups: the partition that ids describe, made once and shared."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from kernels_checks import UPSTREAM, assert_near, assert_true, evaluate
from kernels_inputs import CONSECUTIVE, PARTITIONS, B, D, K, M, consecutive_groups, grouped, shuffled
from kernels_truth import truth

from dainv_kernels import Groups, invariance_loss

INTEGERS = [torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8, torch.uint16, torch.uint32, torch.uint64]


@pytest.mark.parametrize("partition", PARTITIONS)
def test_groups_keep_the_partition_of_the_ids(device: torch.device, partition: str) -> None:
    ids = PARTITIONS[partition].to(device)
    groups = Groups.from_ids(ids)
    numbered = groups.ids()
    assert len(groups) == B
    assert torch.equal(numbered[:, None] == numbered, ids[:, None] == ids)
    assert torch.equal(groups.sizes()[numbered], (ids[:, None] == ids).sum(1))
    assert groups.sizes().sum() == B
    assert groups.n_groups == len(ids.unique()) == groups.sizes().count_nonzero()


def test_consecutive_groups_are_what_their_ids_describe(device: torch.device) -> None:
    groups, of_ids = consecutive_groups(device), Groups.from_ids(CONSECUTIVE.to(device))
    assert torch.equal(groups.ids(), CONSECUTIVE.to(device))
    assert torch.equal(groups.rows, of_ids.rows)
    assert torch.equal(groups.bounds, of_ids.bounds)
    assert torch.equal(groups.n_groups, of_ids.n_groups)
    assert groups.views == M


@pytest.mark.parametrize(
    ("normalization", "expected"),
    [("pairs", [3 * 5 / 8, 5 / 8, 2 * 5 / 8, 0, 0, 0]), ("printed", [6 / 3, 6 / 1, 6 / 2, 0, 0, 0])],
)
def test_weights_of_ragged_groups_by_hand(device: torch.device, normalization: str, expected: list[float]) -> None:
    # Sizes 3, 1, 2: B = 6 and n (n - 1) sums to 8.
    weights = Groups.from_ids(torch.tensor([0, 0, 0, 1, 2, 2], device=device)).weights(normalization)
    spread = torch.tensor([1, 0, 1, 0, 0, 0], device=device)  # what weights nothing may weigh anything
    assert weights.dtype == torch.float64
    assert (weights * spread).tolist() == [weight * has for weight, has in zip(expected, spread.tolist(), strict=True)]
    assert weights[3:].tolist() == [0, 0, 0]


@pytest.mark.parametrize("normalization", ["pairs", "printed"])
@pytest.mark.parametrize("partition", ["consecutive", "ragged-shuffled"])
def test_a_groups_object_serves_like_its_ids(
    backend: str, device: torch.device, partition: str, normalization: str
) -> None:
    ids = PARTITIONS[partition].to(device)
    x = grouped(PARTITIONS[partition], D).float().to(device)
    groups = Groups.from_ids(ids)
    for got, expected in zip(
        evaluate(x, groups, backend, normalization), evaluate(x, ids, backend, normalization), strict=True
    ):
        assert torch.equal(got, expected)


@pytest.mark.parametrize("kind", ["consecutive", "shuffled"])
def test_layers_of_any_size_and_dtype_share_one_groups_object(backend: str, device: torch.device, kind: str) -> None:
    ids = CONSECUTIVE if kind == "consecutive" else shuffled(CONSECUTIVE)
    groups = consecutive_groups(device) if kind == "consecutive" else Groups.from_ids(ids.to(device))
    before = [groups.rows.clone(), groups.bounds.clone(), groups.n_groups.clone()]
    layers = [
        grouped(ids, 40).float(),
        grouped(ids, 6, 5, 4, seed=1).contiguous(memory_format=torch.channels_last).bfloat16(),
        grouped(ids, 3, seed=2),
    ]
    layers = [layer.to(device).requires_grad_() for layer in layers]
    losses = [invariance_loss(layer, groups, backend=backend) for layer in layers]
    gradients = torch.autograd.grad(sum(losses) * UPSTREAM, layers)
    for layer, loss, gradient in zip(layers, losses, gradients, strict=True):
        assert_near((loss, gradient), truth(layer, ids, upstream=UPSTREAM), layer.dtype)
    assert all(map(torch.equal, before, [groups.rows, groups.bounds, groups.n_groups]))


@pytest.mark.parametrize("kind", ["consecutive", "shuffled"])
def test_groups_made_in_inference_mode_serve_in_training(backend: str, device: torch.device, kind: str) -> None:
    ids = CONSECUTIVE if kind == "consecutive" else shuffled(CONSECUTIVE)
    x = grouped(ids, 5).float().to(device)
    with torch.inference_mode():
        groups = consecutive_groups(device) if kind == "consecutive" else Groups.from_ids(ids.to(device).clone())
        loss = invariance_loss(x, groups, backend=backend)
    trained, gradient = evaluate(x, groups, backend)
    assert_near((trained, gradient), truth(x, ids, upstream=UPSTREAM), x.dtype)
    assert torch.equal(trained, loss)


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_ids_of_any_integer_dtype(device: torch.device, dtype: torch.dtype) -> None:
    ids = shuffled(CONSECUTIVE)
    expected = Groups.from_ids(ids)
    got = Groups.from_ids(ids.to(dtype).to(device))
    assert torch.equal(got.rows.cpu(), expected.rows)
    assert torch.equal(got.bounds.cpu(), expected.bounds)


def test_ids_in_any_memory_layout(closed_form_backend: str, device: torch.device) -> None:
    ids = torch.stack([shuffled(CONSECUTIVE), CONSECUTIVE], dim=1).to(device)[:, 0]
    assert ids.stride() == (2,)
    assert_true(grouped(ids.cpu(), D).float().to(device), ids, closed_form_backend)


@pytest.mark.parametrize(("n_groups", "views"), [(0, 4), (4, 0), (-1, 4)])
def test_consecutive_groups_of_nothing_are_refused(n_groups: int, views: int) -> None:
    with pytest.raises(ValueError, match=rf"groups.*{n_groups} of {views}"):
        Groups.consecutive(n_groups, views)


@pytest.mark.parametrize(("n_groups", "views"), [(2.0, 3), (2, 3.5), ("2", 3), (2, None), (torch.tensor(2), 3)])
def test_numbers_of_consecutive_groups_that_are_no_integers_are_refused(n_groups: Any, views: Any) -> None:
    with pytest.raises(TypeError, match=re.escape(f"groups: expected integers, n_groups and views, got {n_groups!r}")):
        Groups.consecutive(n_groups, views)


def test_groups_equal_themselves_alone() -> None:
    groups = consecutive_groups()
    assert groups != consecutive_groups()
    assert {groups: 1}[groups] == 1
    assert "arrived" not in repr(groups)


def test_number_of_consecutive_groups_is_checked_against_the_batch(backend: str, device: torch.device) -> None:
    x = grouped(CONSECUTIVE, D).float().to(device)
    with pytest.raises(ValueError, match=rf"groups.*{B}.*{(K + 1) * M}"):
        invariance_loss(x, Groups.consecutive(K + 1, M, device=device), backend=backend)
