"""How calls of a method become something to time, on a CPU and as a CUDA graph."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from bench_helpers import CPU, SMALL
from torch import Tensor

from dainv_bench.kernels import bandwidth, methods, replay, suite
from dainv_bench.kernels.accuracy import complaint, measure_errors, truth_of
from dainv_bench.kernels.cases import Workload, make_sets
from dainv_bench.timing import meter_for


def test_calls_go_through_the_sets_in_turn() -> None:
    seen: list[int] = []
    timed = replay.OnCPU().prepare(lambda: [lambda number=number: seen.append(number) for number in range(3)])
    for turn in range(7):
        timed.work(turn)
    assert seen == [0, 1, 2, 0, 1, 2, 0]
    assert (timed.calls, timed.how) == (1, "cpu")


class FakeGraph:
    """Counts its replays; recording runs the calls, as no real one does."""

    replays = 0

    def replay(self) -> None:
        type(self).replays += 1


@pytest.fixture
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """All of torch.cuda that recording needs, on a CPU; gives the sync debug mode."""
    mode = ["default"]
    stand_ins = {
        "Stream": lambda _device: "side stream",
        "CUDAGraph": FakeGraph,
        "graph": lambda _graph, pool, stream: nullcontext(),
        "graph_pool_handle": lambda: "pool",
        "stream": lambda _stream: nullcontext(),
        "device": lambda _device: nullcontext(),
        "synchronize": lambda _device=None: None,
        "get_sync_debug_mode": lambda: mode[0],
        "set_sync_debug_mode": lambda new: mode.__setitem__(0, new),
    }
    for name, stand_in in stand_ins.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    monkeypatch.setattr(FakeGraph, "replays", 0)
    return lambda: mode[0]


def test_a_turn_on_a_gpu_is_replays_of_all_calls(fake_cuda: Callable[[], str]) -> None:
    done: list[int] = []
    timed = replay.OnGPU(CPU).prepare(lambda: [lambda number=number: done.append(number) for number in range(5)])
    assert timed.how == "graph"
    assert done[-5:] == [0, 1, 2, 3, 4]  # recorded once, all of them
    before, recorded = FakeGraph.replays, len(done)
    timed.work(0)
    assert timed.calls == 5 * (FakeGraph.replays - before)
    assert FakeGraph.replays - before > 1  # one is too short to be timed
    assert len(done) == recorded


def test_long_calls_are_few_in_a_turn(fake_cuda: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay.OnGPU, "_milliseconds", lambda self, work: 60.0)
    assert replay.OnGPU(CPU).prepare(lambda: [lambda: None] * 5).calls == 2


def test_what_a_graph_reads_stays_alive(fake_cuda: Callable[[], str]) -> None:
    held: list[weakref.ref[Tensor]] = []

    def make_calls() -> list[Callable[[], object]]:
        saved = torch.ones(3)
        held.append(weakref.ref(saved))
        return [lambda: saved + 1]

    timed = replay.OnGPU(CPU).prepare(make_calls)
    gc.collect()
    assert held[0]() is not None
    del timed
    gc.collect()
    assert held[0]() is None


def test_what_waits_for_the_gpu_is_not_recorded(fake_cuda: Callable[[], str]) -> None:
    def waits() -> None:
        if fake_cuda() == "error":
            raise RuntimeError("called a synchronizing CUDA operation")

    timed = replay.OnGPU(CPU).prepare(lambda: [waits])
    assert (timed.how, FakeGraph.replays) == ("launched", 0)
    assert fake_cuda() == "default"
    timed.work(0)


def test_another_error_is_not_taken_for_waiting(fake_cuda: Callable[[], str]) -> None:
    def fails() -> None:
        raise RuntimeError("illegal memory access")

    with pytest.raises(RuntimeError, match="illegal"):
        replay.waits_for_gpu(fails)
    assert fake_cuda() == "default"


@pytest.mark.parametrize("direction", replay.DIRECTIONS)
@pytest.mark.parametrize("name", ["torch", "relu+torch", "relu"])
def test_each_direction_can_be_done_again_and_again(direction: str, name: str) -> None:
    method, workload = methods.methods()[name], Workload("two", (SMALL, SMALL))
    sets = make_sets(workload, 2, 0, CPU)
    calls = replay.calls_on(method, method.prepare(workload, CPU), workload, sets, direction)
    first, again = calls[0](), calls[0]()
    assert len(calls) == 2
    assert len(first) == (4 if direction == "forward" and name == "relu+torch" else 2)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert all(x.grad is None for one in sets for x in one.features)


@pytest.mark.gpu
@pytest.mark.parametrize("direction", replay.DIRECTIONS)
@pytest.mark.parametrize("name", ["torch", "triton", "relu+triton", "published", "cdist", "closed-form", "compiled"])
def test_a_method_is_recorded_and_replayed(name: str, direction: str) -> None:
    device, method = torch.device("cuda"), methods.methods()[name]
    workload = Workload("two", (SMALL, replace(SMALL, shape=(7, 3, 3))))
    sets = make_sets(workload, 3, 0, device)
    truth = truth_of(method.form, workload, sets[0])
    with suite._as_timed():
        operation = method.prepare(workload, device)
        assert complaint(measure_errors(method, operation, workload, sets[0], truth)) is None
        timed = replay.OnGPU(device).prepare(lambda: replay.calls_on(method, operation, workload, sets, direction))
    sample = meter_for(device, queued=True)(lambda: timed.work(0))
    assert timed.how == "graph"
    assert timed.calls % 3 == 0
    assert sample.milliseconds > 0


@pytest.mark.gpu
def test_what_waits_for_the_gpu_is_launched_instead() -> None:
    x = torch.ones(3, device="cuda")
    assert replay.waits_for_gpu(lambda: x.sum().item()) is not None
    assert replay.waits_for_gpu(lambda: x.sum()) is None
    assert torch.cuda.get_sync_debug_mode() == 0
    assert replay.OnGPU(torch.device("cuda")).prepare(lambda: [lambda: x.sum().item()]).how == "launched"


@pytest.mark.gpu
def test_a_copy_is_timed_near_the_bandwidth_of_a_gpu() -> None:
    device = torch.device("cuda")
    copy = bandwidth.Copy(device)
    timed = replay.OnGPU(device).prepare(copy.calls)
    milliseconds = meter_for(device, queued=True)(lambda: timed.work(0)).milliseconds / timed.calls
    assert 10 < bandwidth.gigabytes_per_second(copy.nbytes, milliseconds) < 100_000
