"""First and second derivatives against finite differences, and the operators as torch.library checks them."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from kernels_inputs import grouped, noise
from torch import Tensor

from dainv_kernels import Groups, invariance_loss, registration

# The fast mode projects on random directions: Triton's interpreter is too slow for one call an element.
IDS = {"consecutive": torch.tensor([0, 0, 0, 1, 1, 1]), "ragged": torch.tensor([7, -1, 7, 3, -1, 7])}
normalizations = pytest.mark.parametrize("normalization", ["pairs", "printed"])
partitions = pytest.mark.parametrize("partition", IDS)


def groups_of(partition: str, device: torch.device) -> Groups:
    if partition == "consecutive":
        return Groups.consecutive(2, 3, device=device)
    return Groups.from_ids(IDS[partition].to(device))


@normalizations
@partitions
def test_gradcheck(backend: str, device: torch.device, partition: str, normalization: str) -> None:
    loss = partial(invariance_loss, groups=groups_of(partition, device), normalization=normalization, backend=backend)
    x = grouped(IDS[partition], 3).to(device).requires_grad_()
    assert torch.autograd.gradcheck(loss, x, fast_mode=backend == "triton")


@partitions
def test_gradgradcheck(backend: str, device: torch.device, partition: str) -> None:
    loss = partial(invariance_loss, groups=groups_of(partition, device), backend=backend)
    x = grouped(IDS[partition], 2).to(device).requires_grad_()
    assert torch.autograd.gradgradcheck(loss, x, fast_mode=backend == "triton")


def test_a_second_backward_through_a_kept_graph_gives_the_same(backend: str, device: torch.device) -> None:
    x = noise(6, 5).to(device).requires_grad_()
    loss = invariance_loss(x, groups_of("ragged", device), backend=backend)
    (once,) = torch.autograd.grad(loss, x, retain_graph=True)
    (twice,) = torch.autograd.grad(loss, x)
    assert torch.equal(once, twice)


# A compiler may hand over any strides, whatever the operator was called with.
ROWS = {
    "padded float32": lambda device: noise(6, 8).to(device, torch.float32)[:, :5],
    "transposed bfloat16": lambda device: noise(5, 6).to(device, torch.bfloat16).t(),
}


def arguments(partition: str, layout: str, device: torch.device) -> tuple[Tensor, list[Tensor], int]:
    *segments, views = groups_of(partition, device).segments("pairs")
    return ROWS[layout](device), segments, views


layouts = pytest.mark.parametrize("layout", ROWS)


@layouts
@partitions
def test_opcheck_of_the_loss(closed_form_backend: str, device: torch.device, partition: str, layout: str) -> None:
    features, segments, views = arguments(partition, layout, device)
    torch.library.opcheck(registration.invariance, (features.requires_grad_(), segments, views, closed_form_backend))


def test_fake_tensors_of_the_loss_by_pairs(triton: str, device: torch.device) -> None:
    features, segments, views = arguments("ragged", "padded float32", device)
    call = features, segments, views, "triton-pairwise"
    torch.library.opcheck(registration.invariance, call, test_utils="test_faketensor")


@pytest.mark.parametrize("relu", [False, True])
@layouts
@partitions
def test_opcheck_of_the_gradient(
    closed_form_backend: str, device: torch.device, partition: str, layout: str, relu: bool
) -> None:
    features, segments, views = arguments(partition, layout, device)
    loss, sums, mean_offset = registration.invariance(features, segments, views, closed_form_backend)
    grad_loss, upstream = torch.full_like(loss, -2.5), torch.ones_like(features) if relu else None
    torch.library.opcheck(
        registration.invariance_backward,
        (grad_loss, features, segments, sums, mean_offset, upstream, relu, views, closed_form_backend),
    )
