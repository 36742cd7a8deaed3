"""Inside an autocast region: half-precision features of a layer, and float32 features left in float32."""

from __future__ import annotations

import pytest
import torch
from kernels_checks import UPSTREAM, assert_near
from kernels_inputs import PARTITIONS, D, grouped, noise
from kernels_truth import truth

from dainv_kernels import invariance_loss

halves = pytest.mark.parametrize("half", [torch.float16, torch.bfloat16], ids=str)


@halves
def test_features_of_an_autocast_layer(backend: str, device: torch.device, half: torch.dtype) -> None:
    ids = PARTITIONS["ragged-shuffled"]
    x, weight = grouped(ids, 12).float().to(device), noise(D, 12).float().to(device).requires_grad_()
    with torch.autocast(device.type, dtype=half):
        features = torch.nn.functional.linear(x, weight)
        features.retain_grad()
        loss = invariance_loss(features, ids.to(device), backend=backend)
    (loss * UPSTREAM).backward()
    assert features.dtype == half
    assert loss.dtype == torch.float32
    assert weight.grad is not None
    assert features.grad is not None
    assert_near((loss, features.grad), truth(features, ids, upstream=UPSTREAM), half)


@halves
def test_float32_features_keep_their_digits_forward_and_backward(
    backend: str, device: torch.device, half: torch.dtype
) -> None:
    ids = PARTITIONS["ragged-shuffled"]
    x = grouped(ids, D).float().to(device).requires_grad_()
    with torch.autocast(device.type, dtype=half):
        loss = invariance_loss(x, ids.to(device), backend=backend)
        (gradient,) = torch.autograd.grad(loss * UPSTREAM, x)
    assert_near((loss, gradient), truth(x, ids, upstream=UPSTREAM), torch.float32)
