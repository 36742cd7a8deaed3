"""Layers so wide that they are taken in several column tiles, the last one narrower."""

from __future__ import annotations

import pytest
import torch
from kernels_checks import UPSTREAM, assert_near, assert_true, evaluate
from kernels_inputs import generator, grouped, shuffled
from kernels_truth import truth
from torch import Tensor

from dainv_kernels import Groups, closed_form, native
from dainv_kernels.blocks import Plan
from dainv_kernels.tiles import Tiles

K, M = 16, 8
IDS = torch.arange(K).repeat_interleave(M)
COPIES = 107


@pytest.fixture(scope="module")
def wide() -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Three tiles of the same 331 features 107 times over: the loss is that of one copy, a gradient a 107th of its own.

    bfloat16 holds the features exactly, so that one brute force serves every dtype. 331 is prime: no two tiles are
    alike.
    """
    x = grouped(IDS, 331).bfloat16().double()
    loss, gradient = truth(x, IDS, upstream=UPSTREAM)
    return x.repeat(1, COPIES), (loss, gradient.repeat(1, COPIES) / COPIES)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("order", ["consecutive", "shuffled"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("backend", ["torch", "native"], indirect=True)
def test_wide_layer(
    backend: str,
    device: torch.device,
    wide: tuple[Tensor, tuple[Tensor, Tensor]],
    dtype: torch.dtype,
    order: str,
) -> None:
    x, (loss, gradient) = wide
    if order == "consecutive":
        got = evaluate(x.to(device, dtype), Groups.consecutive(K, M, device=device), backend)
    else:
        permutation = torch.randperm(K * M, generator=generator())
        x, gradient = x[permutation], gradient[permutation]
        got = evaluate(x.to(device, dtype), IDS[permutation].to(device), backend)
    assert_near(got, (loss, gradient), dtype)


def test_the_layer_is_wide_enough(wide: tuple[Tensor, tuple[Tensor, Tensor]]) -> None:
    assert wide[0].shape[1] > 2 * native._tile(wide[0].float(), largest=1)
    plan = Plan.of(Groups.consecutive(K, M).segments("pairs"))
    tiles = Tiles(wide[0], plan, closed_form._FORWARD)
    widths = [tile.shape[1] for tile in tiles.of(wide[0])]
    assert len(widths) == 3
    assert widths[-1] < widths[0]


@pytest.mark.parametrize("order", ["consecutive", "shuffled"])
def test_several_tiles_in_triton(triton: str, device: torch.device, order: str) -> None:
    ids = IDS if order == "consecutive" else shuffled(IDS)
    groups = Groups.consecutive(K, M, device=device) if order == "consecutive" else None
    x = grouped(ids, 2 * 1024 + 37).float().to(device)  # tiles are 1024 wide in the interpreter, narrower on a GPU
    assert_true(x, ids.to(device), triton, groups=groups)
