"""The model of memory traffic in kernels/README.md, element by element, with the tiles that a GPU would get."""

from __future__ import annotations

import math
import os
from collections.abc import Callable

import pytest
import torch
from kernels_inputs import ids_of_sizes, noise, shuffled
from kernels_traffic import Launch, counting
from torch import Tensor

from dainv_kernels import Groups, invariance_loss, pairwise_mse, relu_invariance

pytest.importorskip("triton", reason="Triton is not installed")
if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("only Triton's interpreter can be watched", allow_module_level=True)

import triton
import triton.language as tl

from dainv_kernels.gpu import pairwise, tiles

D = 112  # aligned rows; two tiles of columns or more, the last of them not full
GROUPINGS: dict[str, Callable[[], Groups]] = {
    "one-full-block": lambda: Groups.consecutive(16, 3),
    "one-group-too-many": lambda: Groups.consecutive(17, 2),
    "too-long-to-unroll": lambda: Groups.consecutive(3, 19),
    "singles-in-order": lambda: Groups.consecutive(5, 1),
    "singles": lambda: Groups.from_ids(torch.arange(5)),
    "ragged": lambda: Groups.from_ids(shuffled(ids_of_sizes(1, 2, 3, 5, 8, 13))),
    "many-shuffled": lambda: Groups.from_ids(shuffled(torch.arange(37).repeat_interleave(2))),
}


@pytest.fixture(autouse=True)
def _tiles_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "interpreted", lambda: False)
    monkeypatch.setattr(pairwise, "interpreted", lambda: False)


@pytest.fixture(params=GROUPINGS)
def groups(request: pytest.FixtureRequest) -> Groups:
    return GROUPINGS[request.param]()


@pytest.fixture
def x(groups: Groups) -> Tensor:
    return noise(len(groups), D).float().requires_grad_()


def once_and_first_row(groups: Groups, first_row: int, walks: int = 1) -> Tensor:
    """Loads of each feature: one a walk over all members of all groups, and so many more of the first row."""
    loads = torch.full((len(groups), D), walks)
    loads[0] += first_row
    return loads


def assert_only(launch: Launch, loaded: set[str], stored: set[str], groups: Groups | None = None) -> None:
    """No argument beside these is touched; the tables of the groups only where groups are not consecutive."""
    tables = set() if groups is None or groups.views else {"order_ptr", "bounds_ptr", "n_groups_ptr"}
    assert {name for name, moves in launch.arguments.items() if moves.loads.any()} == loaded | tables
    assert {name for name, moves in launch.arguments.items() if moves.stores.any()} == stored


def assert_sums(launch: Launch, groups: Groups, loaded: set[str], stored: set[str]) -> None:
    """The forward pass: features once, results once, and of what programs tell each other every number once."""
    of = launch.arguments
    tiles, splits = launch.grid
    assert torch.equal(of["x_ptr"].loads, once_and_first_row(groups, splits))
    for result in ("mean_offset_ptr", "sums_ptr", "loss_ptr"):
        assert (of[result].stores == 1).all(), result
    assert (of["partial_ptr"].stores == 1).all()
    assert (of["partial_ptr"].loads[:2] == 1).all()
    assert of["arrived_ptr"].loads.item() == tiles * splits
    between_programs = {"partial_ptr", "arrived_ptr"}
    if splits > 1:
        assert (of["means_ptr"].stores == 1).all()
        assert (of["means_ptr"].loads == 1).all()
        between_programs |= {"means_ptr"}
    else:
        assert not of["means_ptr"].loads.any()
        stored = stored | {"means_ptr"}  # which is mean_offset_ptr then
    results = {"mean_offset_ptr", "sums_ptr", "loss_ptr"}
    assert_only(
        launch,
        {"x_ptr", "first_ptr", "weights_ptr"} | between_programs | loaded,  # the first two are the same
        results | between_programs | stored,
        groups,
    )


def assert_gradient(launch: Launch, groups: Groups, loaded: set[str]) -> None:
    """The backward pass: everything once, but features of groups that are not held whole twice."""
    of = launch.arguments
    n_blocks = triton.cdiv(int(groups.n_groups), launch.numbers["GROUP_BLOCK"])
    whole = 0 < groups.views <= 16
    assert launch.numbers["AHEAD"] == (groups.views if whole else 4)
    walks = 1 if whole else 2
    assert torch.equal(of["x_ptr"].loads, once_and_first_row(groups, n_blocks, walks))
    assert (of["grad_ptr"].stores == 1).all()
    assert (of["mean_offset_ptr"].loads == n_blocks).all()
    small = {"grad_loss_ptr", "weights_ptr", "sums_ptr", "mean_offset_ptr"}
    assert_only(launch, {"x_ptr"} | small | loaded, {"grad_ptr"}, groups)


def test_loss(groups: Groups, x: Tensor) -> None:
    with counting() as forward:
        loss = invariance_loss(x, groups, backend="triton")
    assert_sums(forward.only("group_sums_kernel"), groups, set(), set())
    with counting() as backward:
        torch.autograd.grad(loss, x)
    assert_gradient(backward.only("gradient_kernel"), groups, set())


@pytest.mark.parametrize("biased", [False, True], ids=["relu", "bias-and-relu"])
def test_relu_and_loss(groups: Groups, x: Tensor, biased: bool) -> None:
    bias = noise(D).float() if biased else None
    with counting() as traffic:
        y, loss = relu_invariance(x, groups, bias=bias, backend="triton")
    forward = traffic.only("group_sums_kernel")
    assert_sums(forward, groups, {"bias_ptr"} if biased else set(), {"activation_ptr"})
    assert (forward.arguments["activation_ptr"].stores == 1).all()
    if biased:
        assert (forward.arguments["bias_ptr"].loads == forward.grid[1]).all()
    with counting() as traffic:
        torch.autograd.grad((y, loss), x, (torch.ones_like(y), torch.ones_like(loss)))
    backward = traffic.only("gradient_kernel")
    assert_gradient(backward, groups, {"upstream_ptr"})
    assert (backward.arguments["upstream_ptr"].loads == 1).all()


def test_in_place_every_element_is_read_and_written_once(groups: Groups, x: Tensor) -> None:
    with counting() as traffic:
        y, loss = relu_invariance(1 * x, groups, inplace=True, backend="triton")
    assert (traffic.only("group_sums_kernel").arguments["x_ptr"].stores == 1).all()
    with counting() as traffic:
        torch.autograd.grad((y, loss), x, (torch.ones_like(y), torch.ones_like(loss)))
    gradient = traffic.only("gradient_kernel").arguments["upstream_ptr"]
    assert (gradient.loads == 1).all()
    assert (gradient.stores == 1).all()


@pytest.mark.parametrize("inplace", [False, True], ids=["", "in-place"])
def test_all_loads_of_a_group_are_under_way_before_anything_is_stored(inplace: bool) -> None:
    # A compiler moves no load over a store that could be to the same place: there would be one member at a time.
    groups = Groups.consecutive(8, 8)  # one program forward, one backward
    x = noise(len(groups), 32).float().requires_grad_()
    with counting() as traffic:
        y, loss = relu_invariance(1 * x, groups, inplace=inplace, backend="triton")
        torch.autograd.grad((y, loss), x, (torch.ones_like(y), torch.ones_like(loss)))
    for launch in traffic.launches:
        assert math.prod(launch.grid) == 1
        first_store = next(i for i, (what, _) in enumerate(launch.order) if what == "store")
        loads = [of for what, of in launch.order[:first_store] if what == "load"]
        later = [of for what, of in launch.order[first_store:] if what == "load"]
        for name in {"x_ptr", "upstream_ptr"} & launch.arguments.keys():
            assert sum(name in of for of in loads) >= groups.views, launch.kernel
            assert not any(name in of for of in later), launch.kernel


def test_in_place_all_threads_have_the_first_row_before_one_writes_over_it() -> None:
    groups = Groups.consecutive(8, 8)
    x, bias = noise(len(groups), 32).float(), noise(32, seed=1).float()
    with counting() as traffic:
        relu_invariance(x, groups, bias=bias, inplace=True, backend="triton")
    launch = traffic.only("group_sums_kernel")
    origin, barrier, first_store = (
        next(i for i, (what, of) in enumerate(launch.order) if what == wanted and argument <= of)
        for wanted, argument in (("load", {"first_ptr"}), ("barrier", set()), ("store", {"activation_ptr"}))
    )
    assert origin < barrier < first_store


def test_a_program_is_counted_when_all_its_threads_have_stored_and_that_is_seen_by_others() -> None:
    groups = Groups.consecutive(34, 3)
    with counting() as traffic:
        invariance_loss(noise(len(groups), 48).float(), groups, backend="triton")
    launch = traffic.only("group_sums_kernel")
    counts = [i for i, (what, of) in enumerate(launch.order) if what == "load" and "arrived_ptr" in of]
    assert len(counts) == math.prod(launch.grid) > 2
    for i in counts:
        assert launch.order[i - 2 : i] == [("barrier", set()), ("ACQUIRE_RELEASE", set())]


def test_nothing_between_rows_is_touched() -> None:
    groups = Groups.consecutive(3, 4)
    x = noise(len(groups), D + 31).float()[:, :D].requires_grad_()
    with counting() as traffic:  # which checks the gaps
        loss = invariance_loss(x, groups, backend="triton")
        torch.autograd.grad(loss, x)
    for launch in traffic.launches:
        assert torch.equal(launch.arguments["x_ptr"].loads, once_and_first_row(groups, 1))


PAIRS: dict[str, tuple[Callable[[], Groups], int]] = {  # groups and D
    "one-tile": (lambda: Groups.consecutive(4, 4), D),
    "triangle-and-two-gradient-blocks": (lambda: Groups.consecutive(22, 3), 33),
    "two-splits": (lambda: Groups.consecutive(10, 2), 16 * 32 + 1),
    "ragged": (lambda: Groups.from_ids(shuffled(ids_of_sizes(1, 2, 3, 5, 8, 13))), 33),
}


@pytest.fixture(params=PAIRS)
def pairs(request: pytest.FixtureRequest) -> tuple[Groups, Tensor]:
    """Groups, and features for them."""
    make, features = PAIRS[request.param]
    groups = make()
    return groups, noise(len(groups), features).float().requires_grad_()


def last_for_missing(batch: int, block: int, times: int) -> Tensor:
    """Loads of each sample that blocks of samples make, the last one in place of those that the last block lacks."""
    loads = torch.full((batch,), times)
    loads[-1] *= 1 + -batch % block
    return loads


def assert_pair_tiles(launch: Launch, x: Tensor, groups: Groups | None) -> None:
    """Features once for each of the tiles that a block of samples is in, B / 16 + 1 of them; results once."""
    of, numbers = launch.arguments, launch.numbers
    batch, features = x.shape
    n_blocks = triton.cdiv(batch, 16)
    tiles, splits = n_blocks * (n_blocks + 1) // 2, launch.grid[1]
    assert numbers["BLOCK"] == 16
    assert launch.grid[0] == tiles
    loads = last_for_missing(batch, 16, n_blocks + 1)
    assert torch.equal(of["x_ptr"].loads, loads[:, None].expand(batch, features))
    if groups is None:
        assert (of["tiles_ptr"].stores == 1).all()
        assert of["tiles_ptr"].stores.shape == (splits * tiles, 16, 16)
        assert_only(launch, {"x_ptr"}, {"tiles_ptr"})
        return
    assert (of["partial_ptr"].stores == 1).all()
    assert len(of["partial_ptr"].stores) == splits * tiles
    # Bounds and weights of the groups of the samples of a tile's rows; both sides' groups, if they are in a table.
    lookups = splits * tiles * 16
    assert of["weights_ptr"].loads.sum() == lookups
    assert of["bounds_ptr"].loads.sum() == 2 * lookups
    table = set() if groups.views else {"group_ptr"}
    if table:
        assert torch.equal(of["group_ptr"].loads, splits * loads)
    assert_only(launch, {"x_ptr", "bounds_ptr", "weights_ptr"} | table, {"partial_ptr"})


def assert_pair_gradient(launch: Launch, x: Tensor, groups: Groups | None, loaded: set[str]) -> None:
    """Features once and once more for each block of samples; gradient once; coefficients once a tile of columns."""
    of, numbers = launch.arguments, launch.numbers
    batch, features = x.shape
    n_blocks = triton.cdiv(batch, numbers["BLOCK"])
    column_tiles = triton.cdiv(features, numbers["BLOCK_D"])
    assert (numbers["BLOCK"], numbers["BLOCK_D"]) == (64, 64)
    assert launch.grid == (n_blocks * column_tiles,)
    loads = n_blocks + last_for_missing(batch, 64, 1)
    assert torch.equal(of["x_ptr"].loads, loads[:, None].expand(batch, features))
    assert (of["grad_ptr"].stores == 1).all()
    if groups is None:
        coefficients = last_for_missing(batch, 64, column_tiles)
        assert torch.equal(of["coefficients_ptr"].loads, coefficients[None, :].expand(batch, batch))
        assert_only(launch, {"x_ptr", "coefficients_ptr"} | loaded, {"grad_ptr"})
        return
    assert (of["sums_ptr"].loads == launch.grid[0]).all()
    assert of["grad_loss_ptr"].loads.item() == launch.grid[0]
    assert of["weights_ptr"].loads.sum() == 64 * launch.grid[0]
    assert of["bounds_ptr"].loads.sum() == 2 * 64 * launch.grid[0]
    table = set() if groups.views else {"group_ptr"}
    if table:
        assert torch.equal(of["group_ptr"].loads, column_tiles * loads)
    small = {"grad_loss_ptr", "bounds_ptr", "weights_ptr", "sums_ptr"}
    assert_only(launch, {"x_ptr"} | small | table | loaded, {"grad_ptr"})


def test_loss_by_pairs(pairs: tuple[Groups, Tensor]) -> None:
    groups, x = pairs
    with counting() as forward:
        loss = invariance_loss(x, groups, backend="triton-pairwise")
    tiles, sums = forward.each("pair_tiles_kernel", "pair_sums_kernel")
    assert_pair_tiles(tiles, x, groups)
    assert (sums.arguments["partial_ptr"].loads == 1).all()
    assert (sums.arguments["sums_ptr"].stores == 1).all()
    assert (sums.arguments["loss_ptr"].stores == 1).all()
    assert_only(sums, {"partial_ptr"}, {"sums_ptr", "loss_ptr"})
    with counting() as backward:
        torch.autograd.grad(loss, x)
    assert_pair_gradient(backward.only("pair_gradient_kernel"), x, groups, set())


def test_relu_and_loss_by_pairs(pairs: tuple[Groups, Tensor]) -> None:
    groups, x = pairs
    y, loss = relu_invariance(x, groups, backend="triton-pairwise")
    with counting() as traffic:
        torch.autograd.grad((y, loss), x, (torch.ones_like(y), torch.ones_like(loss)))
    backward = traffic.only("pair_gradient_kernel")
    assert_pair_gradient(backward, x, groups, {"upstream_ptr"})
    assert (backward.arguments["upstream_ptr"].loads == 1).all()


def test_distances(pairs: tuple[Groups, Tensor]) -> None:
    _, x = pairs
    with counting() as forward:
        distances = pairwise_mse(x, backend="triton-pairwise")
    tiles, matrix = forward.each("pair_tiles_kernel", "matrix_kernel")
    assert_pair_tiles(tiles, x, None)
    assert (matrix.arguments["tiles_ptr"].loads == 1).all()
    assert (matrix.arguments["distances_ptr"].stores == 1).all()
    assert_only(matrix, {"tiles_ptr"}, {"distances_ptr"})
    with counting() as backward:
        torch.autograd.grad(distances, x, noise(len(x), len(x)).float())
    assert_pair_gradient(backward.only("pair_gradient_kernel"), x, None, set())


def test_the_columns_of_pairs_are_split() -> None:
    make, features = PAIRS["two-splits"]
    with counting() as traffic:
        invariance_loss(noise(len(make()), features).float(), make(), backend="triton-pairwise")
    assert traffic.launches[0].grid == (3, 2)


def test_pairs_of_strided_rows_touch_nothing_between_them() -> None:
    groups = Groups.consecutive(3, 4)
    x = noise(len(groups), D + 31).float()[:, :D].requires_grad_()
    with counting() as traffic:  # which checks the gaps
        torch.autograd.grad(invariance_loss(x, groups, backend="triton-pairwise"), x)
    assert_pair_tiles(traffic.launches[0], x, groups)
    assert_pair_gradient(traffic.launches[-1], x, groups, set())


@triton.jit
def copy_kernel(source_ptr, target_ptr, count_ptr, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(source_ptr + i, mask=i < n, other=0) + tl.load(source_ptr)
    tl.store(target_ptr + 2 * i, value, mask=i < n)
    tl.atomic_add(count_ptr, 1)


def test_what_is_counted() -> None:
    source, target, count = torch.arange(5.0), torch.zeros(5, 2), torch.zeros((), dtype=torch.int32)
    with counting() as traffic:
        copy_kernel[(2,)](source, target, count, 5, BLOCK=4)
    assert target[:, 0].tolist() == source.tolist()
    launch = traffic.only("copy_kernel")
    assert launch.grid == (2,)
    of = launch.arguments
    assert of["source_ptr"].loads.tolist() == [3, 1, 1, 1, 1]  # the first element once more in each program
    assert of["target_ptr"].stores.tolist() == [[1, 0]] * 5
    assert of["count_ptr"].loads.item() == of["count_ptr"].stores.item() == count.item() == 2
    assert not of["source_ptr"].stores.any()
    assert not of["target_ptr"].loads.any()


def test_access_outside_of_the_arguments_is_an_error() -> None:
    source, count = torch.zeros(8)[:5], torch.zeros((), dtype=torch.int32)
    with counting(), pytest.raises(Exception, match="copy_kernel: a load outside of its arguments"):
        copy_kernel[(2,)](source, torch.zeros(8, 2), count, 6, BLOCK=4)


def test_access_between_rows_is_an_error() -> None:
    source, count = torch.zeros(3, 4)[:, :2], torch.zeros((), dtype=torch.int32)
    with counting(), pytest.raises(AssertionError):
        copy_kernel[(1,)](source, torch.zeros(4, 2), count, 4, BLOCK=4)
