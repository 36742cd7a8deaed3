"""The tiles that a GPU gets, in Triton's interpreter: groups whole and in steps, rows aligned and not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from kernels_checks import UPSTREAM, assert_near
from kernels_inputs import grouped, ids_of_sizes, noise, shuffled
from kernels_truth import true_loss

from dainv_kernels import Groups, relu_invariance

STEPPED: dict[str, Callable[[torch.device], Groups]] = {
    "one-view": lambda device: Groups.consecutive(5, 1, device),
    "whole": lambda device: Groups.consecutive(9, 5, device),
    "whole-of-many": lambda device: Groups.consecutive(5, 16, device),
    "in-steps-and-a-rest": lambda device: Groups.consecutive(9, 19, device),
    "ragged": lambda device: Groups.from_ids(shuffled(ids_of_sizes(1, 2, 3, 4, 5, 8, 13, 4, 9, 1)).to(device)),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("features", [48, 37], ids=["aligned", "unaligned"])
@pytest.mark.parametrize("kind", STEPPED)
def test_bias_and_relu_and_loss(
    triton: str, device: torch.device, monkeypatch: pytest.MonkeyPatch, kind: str, features: int, dtype: torch.dtype
) -> None:
    from dainv_kernels.gpu import tiles

    monkeypatch.setattr(tiles, "interpreted", lambda: False)
    groups = STEPPED[kind](device)
    ids = groups.ids().cpu()
    x = grouped(ids, features).to(device, dtype)
    upstream = noise(len(groups), features, seed=5).to(device, dtype)
    bias = noise(features, seed=6).to(device, dtype)
    leaf = x.clone().requires_grad_()
    y, loss = relu_invariance(leaf, groups, bias=bias, backend=triton)
    assert torch.equal(y, (x + bias).relu())
    (gradient,) = torch.autograd.grad((y, loss), leaf, (upstream, torch.full_like(loss, UPSTREAM)))

    true_x = y.detach().cpu().double().requires_grad_()
    true = true_loss(true_x, ids)
    (true_gradient,) = torch.autograd.grad(true * UPSTREAM, true_x) if true.requires_grad else (torch.zeros(1),)
    true_gradient = (true_gradient + upstream.cpu().double()) * (true_x > 0)
    if kind == "one-view":  # without a pair the loss is 0
        assert loss == 0
        assert torch.equal(gradient.cpu(), true_gradient.to(dtype))
    else:
        assert_near((loss, gradient), (true.detach(), true_gradient), dtype)


@pytest.mark.parametrize(
    ("features", "views", "ahead"),
    [(96, 8, 8), (96, 16, 16), (96, 17, 4), (96, 0, 4), (97, 8, 4), (97, 3, 3), (97, 0, 4)],
)
def test_members_that_are_asked_for_at_a_time(
    triton: str, monkeypatch: pytest.MonkeyPatch, features: int, views: int, ahead: int
) -> None:
    from dainv_kernels.gpu import tiles

    monkeypatch.setattr(tiles, "interpreted", lambda: False)
    for tile in (tiles.forward_tile, tiles.backward_tile):
        of_kernel = tile(features, torch.float32, views).constants(features, torch.float32, views)
        assert of_kernel["AHEAD"] == ahead
