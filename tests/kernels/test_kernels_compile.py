"""torch.compile without a graph break, compiled by inductor; forward and backward."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
import torch
from kernels_checks import UPSTREAM, assert_near
from kernels_inputs import CONSECUTIVE, PARTITIONS, D, K, M, consecutive_groups, grouped, ids_of_sizes, noise
from kernels_truth import truth
from torch import Tensor

from dainv_kernels import Groups, invariance_loss

pytestmark = pytest.mark.skipif(
    not any(map(shutil.which, ("g++", "clang++", "c++"))), reason="torch.compile needs a C++ compiler"
)


@pytest.fixture(autouse=True)
def nothing_compiled_before() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def test_compiled_with_ids(backend: str, device: torch.device) -> None:
    @torch.compile(fullgraph=True)
    def loss_of(x: Tensor, ids: Tensor) -> Tensor:
        return invariance_loss(x, ids, backend=backend)

    ids = PARTITIONS["ragged-shuffled"]
    x = grouped(ids, D).float().to(device).requires_grad_()
    loss = loss_of(x, ids.to(device))
    (gradient,) = torch.autograd.grad(loss * UPSTREAM, x)
    assert_near((loss, gradient), truth(x, ids, upstream=UPSTREAM), x.dtype)


def test_compiled_network_with_channels_last_features(closed_form_backend: str, device: torch.device) -> None:
    groups = consecutive_groups(device)

    def both(images: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        features = torch.nn.functional.conv2d(images, weight)
        return invariance_loss(features.relu(), groups, backend=closed_form_backend), features

    images = grouped(CONSECUTIVE, 3, 6, 5).float().to(device).contiguous(memory_format=torch.channels_last)
    weight = noise(8, 3, 3, 3).float().to(device).requires_grad_()
    expected_loss, features = both(images, weight)
    (expected,) = torch.autograd.grad(expected_loss, weight)
    loss, _ = torch.compile(both, fullgraph=True)(images, weight)
    (gradient,) = torch.autograd.grad(loss, weight)
    assert_near((loss, gradient), (expected_loss.cpu().double(), expected.cpu().double()), torch.float32)
    true_loss, _ = truth(features.relu(), CONSECUTIVE)
    assert abs(loss.item() - true_loss.item()) <= 2e-6 * true_loss.item()


def test_compiled_with_groups_made_inside(closed_form_backend: str, device: torch.device) -> None:
    @torch.compile(fullgraph=True)
    def loss_of(x: Tensor) -> Tensor:
        return invariance_loss(x, Groups.consecutive(K, M, device=x.device), backend=closed_form_backend)

    x = grouped(CONSECUTIVE, D).float().to(device).requires_grad_()
    loss = loss_of(x)
    (gradient,) = torch.autograd.grad(loss * UPSTREAM, x)
    assert_near((loss, gradient), truth(x, CONSECUTIVE, upstream=UPSTREAM), x.dtype)


def test_compiled_once_for_batches_of_any_size(closed_form_backend: str, device: torch.device) -> None:
    @torch.compile(fullgraph=True, dynamic=True)
    def loss_of(x: Tensor, ids: Tensor) -> Tensor:
        return invariance_loss(x, ids, backend=closed_form_backend)

    for sizes, features in (((2, 3, 4), 31), ((5, 6, 7, 1), 97)):
        ids = ids_of_sizes(*sizes)
        x = grouped(ids, features).float().to(device).requires_grad_()
        with torch.compiler.set_stance("default" if sizes == (2, 3, 4) else "fail_on_recompile"):
            loss = loss_of(x, ids.to(device))
        (gradient,) = torch.autograd.grad(loss * UPSTREAM, x)
        assert_near((loss, gradient), truth(x, ids, upstream=UPSTREAM), x.dtype)
