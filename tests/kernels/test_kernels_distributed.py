"""The loss over several processes is that of one process with all their samples."""

from __future__ import annotations

import itertools
import os
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest
import torch
from conftest import runs_triton_on
from kernels_checks import gradient_bound, loss_bound, relative_error
from kernels_inputs import noise
from kernels_ranks import DEALT, RANKS, SHAPE, Case, spawned
from torch import Tensor, distributed

from dainv_kernels import Groups, available_backends, invariance_loss, relu_invariance

CPU = torch.device("cpu")
FAST = tuple(name for name in available_backends() if name not in ("reference", "triton", "triton-pairwise"))
BACKENDS = FAST if runs_triton_on(CPU) else (*FAST, "triton")
HALVES = (torch.float16, torch.bfloat16)

DEALS = [
    Case(dealt, ranks, normalization, dtype)
    for dealt, ranks, normalization, dtype in itertools.product(
        [name for name in DEALT if name != "no-pair"], (2, 3), ("pairs", "printed"), (torch.float64, torch.float32)
    )
]
OPERATIONS = [
    Case(operation=operation, backend=backend, dtype=dtype)
    for operation, backend, dtype in itertools.product(
        ("loss", "relu", "bias", "inplace"), BACKENDS, (torch.float64, torch.float32)
    )
    if backend != "triton" or (dtype == torch.float32 and operation != "relu")  # the interpreter is slow
]
HALF = [Case("ragged", dtype=dtype, normalization="printed") for dtype in HALVES]
LAYOUTS = [Case(operation=operation, channels_last=1) for operation in ("loss", "inplace")]
FAR_AWAY = [Case("ragged", dtype=torch.float32, backend=backend, mean=1e4) for backend in BACKENDS]
EMPTY = [
    Case(dealt, normalization=normalization, dtype=dtype, kind=kind)
    for normalization, dtype in itertools.product(("pairs", "printed"), (torch.float64, torch.float32))
    for dealt, kind in (("no-pair", "noise"), ("ragged", "constant"), ("ragged", "constant-by-rank"))
]
NOT_NUMBERS = [Case("one-sample", operation=operation, kind="nan") for operation in ("loss", "relu")]
CASES = [*DEALS, *OPERATIONS, *HALF, *LAYOUTS, *FAR_AWAY, *EMPTY, *NOT_NUMBERS]


def work(rank: int) -> dict[str, Any]:
    """All that a rank has to say, computed in the order in which all ranks do."""
    world = distributed.group.WORLD
    two = distributed.new_group([0, 1])
    assert world is not None
    found: dict[str, Any] = {}
    for case in CASES:
        if rank < case.ranks:
            found[str(case)] = case.on(rank, world if case.ranks == RANKS else two)
    found["again"] = CASES[0].on(rank, two) if rank < 2 else {}
    found["errors"] = _errors(rank, world)
    found["exchanged"] = [_exchanged(features, world) for features in (noise(4, 7), noise(4, 7), noise(4, 7, 1))]
    found["compiled"] = _compiled(rank, world)
    return found


def _errors(rank: int, world: distributed.ProcessGroup) -> list[str]:
    x, ids = noise(4, 3, seed=rank).requires_grad_(), torch.tensor([0, 0, 1, 1])
    calls = [
        lambda: torch.autograd.grad(invariance_loss(x, ids, process_group=world), x, create_graph=True),
        lambda: torch.func.grad(lambda x: invariance_loss(x, ids, process_group=world))(x),
        lambda: invariance_loss(x, ids, backend="reference", process_group=world),
        lambda: invariance_loss(x, ids, process_group="gloo"),  # type: ignore[arg-type]
        lambda: invariance_loss(noise(4, 9 + rank), ids, process_group=world),
        lambda: relu_invariance(noise(4, *((6, 2) if rank else (3, 4))), ids, process_group=world),
    ]
    errors = []
    for call in calls:
        with pytest.raises((TypeError, ValueError, RuntimeError)) as error:
            call()
        errors.append(f"{error.type.__name__}: {error.value}")
    return errors


def _exchanged(features: Tensor, world: distributed.ProcessGroup) -> list[int]:
    """The numbers that a call sends at a time."""
    with mock.patch.object(distributed, "all_gather_into_tensor", wraps=distributed.all_gather_into_tensor) as gather:
        invariance_loss(features, torch.tensor([0, 0, 1, 1]), process_group=world)
    return [call.args[1].numel() for call in gather.call_args_list]


def _compiled(rank: int, world: distributed.ProcessGroup) -> dict[str, Tensor]:
    x, groups = noise(6, 4, seed=rank), Groups.consecutive(2, 3)

    def doubled(x: Tensor) -> tuple[Tensor, Tensor]:
        activation, loss = relu_invariance(2 * x, groups, inplace=True, process_group=world)
        return activation + 1, loss

    # only one rank compiles: the others need not import a compiler to take part
    activation, loss = (torch.compile(doubled, backend="eager") if rank == 0 else doubled)(x)
    expected = doubled(x)
    return {"activation": activation - expected[0], "loss": loss - expected[1]}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each rank found, all cases in one start of the processes."""
    assert os.environ.get("TRITON_INTERPRET") == "1" or "triton" not in BACKENDS
    return spawned(work, tmp_path_factory.mktemp("ranks"))


def of_case(found: list[dict[str, Any]], case: Case) -> list[dict[str, Tensor]]:
    return [one[str(case)] for one in found[: case.ranks]]


def assert_joined(got: list[dict[str, Tensor]], case: Case, loss: float, gradient: float) -> None:
    """Compare with one process; gradients as a ratio to the norm of the whole batch's."""
    expected = case.joined()
    assert [set(one) for one in got] == [set(one) for one in expected]
    for name in expected[0]:
        true = [one[name] for one in expected]
        if name == "loss":
            assert all(torch.equal(one[name], got[0][name]) for one in got), "not the same bits on all ranks"
            assert relative_error(got[0][name], true[0]) <= loss
        else:
            whole = torch.cat([one[name].flatten() for one in got]), torch.cat([one.flatten() for one in true])
            assert relative_error(*whole) <= gradient
            assert all(one[name].dtype == case.dtype for one in got)


@pytest.mark.parametrize("case", [*DEALS, *OPERATIONS, *LAYOUTS], ids=str)
def test_loss_and_gradient_are_those_of_the_joined_batch(found: list[dict[str, Any]], case: Case) -> None:
    bounds = (1e-12, 1e-12) if case.dtype == torch.float64 else (loss_bound(case.dtype), gradient_bound(case.dtype))
    assert_joined(of_case(found, case), case, *bounds)


@pytest.mark.parametrize("case", HALF, ids=str)
def test_halves_lose_no_more_than_their_own_rounding(found: list[dict[str, Any]], case: Case) -> None:
    assert_joined(of_case(found, case), case, loss_bound(case.dtype), gradient_bound(case.dtype))


@pytest.mark.parametrize("case", FAR_AWAY, ids=str)
def test_a_large_common_mean_costs_no_digits(found: list[dict[str, Any]], case: Case) -> None:
    assert_joined(of_case(found, case), case, 1e-5, 1e-5)


@pytest.mark.parametrize("case", EMPTY, ids=str)
def test_without_pairs_or_without_spread_loss_and_gradient_are_zero(found: list[dict[str, Any]], case: Case) -> None:
    for one in of_case(found, case):
        assert one["loss"] == 0
        assert not one["gradient"].any()


@pytest.mark.parametrize("case", NOT_NUMBERS, ids=str)
def test_nan_on_one_rank_is_nan_on_all(found: list[dict[str, Any]], case: Case) -> None:
    for one in of_case(found, case):
        assert one["loss"].isnan()
        active = one["gradient"] if case.operation == "loss" else one["gradient"][one["activation"] > 0]
        assert active.isnan().all()


def test_the_same_input_gives_the_same_bits(found: list[dict[str, Any]]) -> None:
    for one in found[:2]:
        for name, value in one["again"].items():
            assert torch.equal(value, one[str(CASES[0])][name])


def test_the_loss_equals_that_of_one_process_with_every_sample(found: list[dict[str, Any]]) -> None:
    case = replace(CASES[0], ranks=3)
    x = torch.cat(case.features()).requires_grad_()
    loss = invariance_loss(x, torch.cat([ids + 9 * rank for rank, ids in enumerate(case.ids())]))
    (-2.5 * 3 * loss).backward()
    got = of_case(found, case)
    assert got[0]["loss"].item() == pytest.approx(loss.item(), rel=1e-13)
    assert relative_error(torch.cat([one["gradient"] for one in got]), x.grad) <= 1e-13  # type: ignore[arg-type]


def test_what_cannot_be_joined_is_refused_by_name(found: list[dict[str, Any]]) -> None:
    for one in found:
        twice, func, pairs, kind, features, order = one["errors"]
        assert twice == func
        assert twice.startswith("RuntimeError: the invariance loss of several processes has first derivatives only")
        assert pairs.startswith("ValueError: backend: 'reference' compares pairs")
        assert kind == "TypeError: process_group: expected None or a torch.distributed.ProcessGroup, got str"
        same = "ValueError: features: expected samples of the same shape in every process, got"
        assert features == f"{same} (9,), (10,), (11,) by rank"
        assert order == f"{same} (3, 4), (6, 2), (6, 2) by rank"


def test_shapes_are_compared_once_and_sums_exchanged_once_a_call(found: list[dict[str, Any]]) -> None:
    for one in found:
        assert one["exchanged"] == [[8, 4 + 7], [4 + 7], [8, 4 + 7]]


def test_compiled_code_breaks_its_graph_and_gives_the_same(found: list[dict[str, Any]]) -> None:
    for one in found:
        assert not one["compiled"]["activation"].any()
        assert one["compiled"]["loss"] == 0


def test_a_single_sample_needs_other_processes() -> None:
    with pytest.raises(ValueError, match="at least 2 samples"):
        invariance_loss(noise(1, *SHAPE), torch.tensor([0]))
