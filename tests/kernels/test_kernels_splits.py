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


def test_splits_of_more_columns_than_are_merged_at_a_time(triton: str, device: torch.device) -> None:
    x = grouped(IDS["consecutive"], 300).float().to(device)
    assert_true(x, IDS["consecutive"].to(device), triton, groups=groups_of("consecutive", device))


def test_an_outlier_among_the_splits_costs_no_digits(triton: str, device: torch.device) -> None:
    x = grouped(IDS["consecutive"], D).float()
    x[0] += 1e4  # the origin of all offsets
    assert_true(x.to(device), IDS["consecutive"].to(device), triton, gradient=1e-4)


@pytest.mark.parametrize("partition", ["consecutive", "shuffled"])
def test_in_place_no_split_takes_what_another_has_written_for_the_first_sample(
    triton: str, device: torch.device, partition: str
) -> None:
    x, bias = grouped(IDS[partition], D).float().to(device), torch.linspace(-1, 1, D, device=device)
    groups = groups_of(partition, device)
    expected, loss = relu_invariance(x, groups, bias=bias, backend=triton)
    activation, in_place = relu_invariance(x, groups, bias=bias, inplace=True, backend=triton)
    assert activation is x
    assert torch.equal(activation, expected)
    assert torch.equal(in_place, loss)


@pytest.mark.parametrize("partition", ["consecutive", "ragged"])
def test_a_program_of_the_gradient_takes_several_blocks_of_groups(
    triton: str, device: torch.device, partition: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dainv_kernels.gpu import tiles

    monkeypatch.setattr(tiles, "_PROGRAMS", 1)
    monkeypatch.setattr(tiles, "_MOST_BLOCKS", 2)
    groups = groups_of(partition, device)
    tile = tiles.backward_tile(D, torch.float32, groups.views)
    n_blocks = tile.blocks(len(groups), D, groups.views)[1]
    assert 1 < tiles.backward_grid(tile, len(groups), D, groups.views)[1] < n_blocks
    x = grouped(IDS[partition], D).float().to(device)
    assert_true(x, IDS[partition].to(device), triton, groups=groups)


@pytest.mark.parametrize("views", [0, 1, 2])
@pytest.mark.parametrize(("batch", "features"), [(1 << 22, 1), (1 << 22, 64), (4, 1 << 30)])
def test_no_grid_is_larger_than_a_gpu_takes(triton: str, batch: int, features: int, views: int) -> None:
    from dainv_kernels.gpu import tiles

    tile = tiles.Tile(8, 64, 4)
    for grid in (tiles.forward_grid, tiles.backward_grid):
        columns, programs = grid(tile, batch, features, views)
        assert columns * tile.block_d >= features
        assert columns < 2**31
        assert programs < 2**16


def test_the_same_bits_again_and_the_count_of_programs_is_left_at_zero(triton: str, device: torch.device) -> None:
    groups = groups_of("ragged", device)
    x = grouped(IDS["ragged"], D).float().to(device)
    once, again = evaluate(x, groups, triton), evaluate(x, groups, triton)
    assert torch.equal(once[0], again[0])
    assert torch.equal(once[1], again[1])
    assert groups.segments("pairs").arrived == 0


def test_layers_share_the_groups(triton: str, device: torch.device) -> None:
    groups = groups_of("consecutive", device)
    x = grouped(IDS["consecutive"], D).float().to(device)
    losses = [relu_invariance(x * factor, groups, backend=triton)[1] for factor in (1, 2, 4)]
    assert losses[0] == losses[1] == losses[2]  # a factor of two changes no digit, and the loss has no unit
