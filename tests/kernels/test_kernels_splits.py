"""Many small groups of few features: the groups are split among programs whose sums are merged by the last one."""

from __future__ import annotations

import pytest
import torch
from kernels_checks import assert_true, evaluate
from kernels_inputs import grouped, ids_of_sizes, shuffled

from dainv_kernels import Groups, relu_invariance

D = 7
IDS = {
    "consecutive": torch.arange(40).repeat_interleave(3),
    "shuffled": shuffled(torch.arange(40).repeat_interleave(3)),
    "ragged": ids_of_sizes(*[1, 2, 5] * 12),
    "two groups": shuffled(ids_of_sizes(40, 24)),
}


def groups_of(partition: str, device: torch.device) -> Groups:
    ids = IDS[partition].to(device)
    return Groups.consecutive(40, 3, device) if partition == "consecutive" else Groups.from_ids(ids)


@pytest.mark.parametrize("partition", ["consecutive", "shuffled", "ragged"])
def test_there_are_several_splits(triton: str, device: torch.device, partition: str) -> None:
    groups = groups_of(partition, device)
    from dainv_kernels.gpu.tiles import forward_grid, forward_tile

    tile = forward_tile(D, torch.float32, groups.views)
    assert forward_grid(tile, len(groups), D, groups.views)[1] > 2


@pytest.mark.parametrize("offset", [0.0, 1e3])
@pytest.mark.parametrize("partition", IDS)
def test_splits_add_up(triton: str, device: torch.device, partition: str, offset: float) -> None:
    x = (grouped(IDS[partition], D) + offset).float().to(device)
    bound = 2e-5 if offset == 0 else 1e-4
    assert_true(x, IDS[partition].to(device), triton, groups=groups_of(partition, device), gradient=bound)


def test_an_outlier_among_the_splits_costs_no_digits(triton: str, device: torch.device) -> None:
    x = grouped(IDS["consecutive"], D).float()
    x[0] += 1e4  # the origin of all offsets
    assert_true(x.to(device), IDS["consecutive"].to(device), triton, gradient=1e-4)


def test_the_same_bits_again_and_the_count_of_programs_is_left_at_zero(triton: str, device: torch.device) -> None:
    groups = groups_of("ragged", device)
    x = grouped(IDS["ragged"], D).float().to(device)
    once, again = evaluate(x, groups, triton), evaluate(x, groups, triton)
    assert torch.equal(once[0], again[0])
    assert torch.equal(once[1], again[1])
    assert groups.arrived == 0


def test_layers_share_the_groups(triton: str, device: torch.device) -> None:
    groups = groups_of("consecutive", device)
    x = grouped(IDS["consecutive"], D).float().to(device)
    losses = [relu_invariance(x * factor, groups, backend=triton)[1] for factor in (1, 2, 4)]
    assert losses[0] == losses[1] == losses[2]  # a factor of two changes no digit, and the loss has no unit
