"""What every launch of a Triton kernel says."""

from __future__ import annotations

import os

import pytest
import torch
from kernels_inputs import consecutive_groups, noise
from kernels_traffic import counting

from dainv_kernels import invariance_loss, pairwise_mse

pytest.importorskip("triton", reason="Triton is not installed")
if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("only launches in Triton's interpreter can be watched", allow_module_level=True)


def test_every_kernel_asks_for_fused_multiply_add() -> None:
    groups = consecutive_groups()
    x = noise(len(groups), 3).float().requires_grad_()
    with counting() as traffic:
        for backend in ("triton", "triton-pairwise"):
            torch.autograd.grad(invariance_loss(x, groups, backend=backend), x)
        torch.autograd.grad(pairwise_mse(x, backend="triton-pairwise").sum(), x)
    assert {launch.kernel for launch in traffic.launches} == {
        *("group_sums_kernel", "gradient_kernel"),
        *("pair_tiles_kernel", "pair_sums_kernel", "pair_gradient_kernel", "matrix_kernel"),
    }
    assert all(launch.numbers["enable_fp_fusion"] is True for launch in traffic.launches)
