from __future__ import annotations

import gc
import json
import math
import weakref
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from bench_helpers import CPU
from click.testing import CliRunner, Result
from torch import Tensor

from dainv import AllCNNC, UserError
from dainv_bench import bandwidth, peers, replay
from dainv_bench.bandwidth import sets_beyond_cache
from dainv_bench.cli import main
from dainv_bench.kernels import methods, suite
from dainv_bench.kernels.accuracy import complaint, measure_errors
from dainv_bench.kernels.cases import DTYPES, LAYOUTS, Case, Workload, layer_shapes, make_sets, workloads
from dainv_bench.kernels.methods import LOSS, RELU, Method, OfLayer
from dainv_bench.kernels.suite import KernelSettings, measure, wrong_methods
from dainv_bench.statistics import median_interval
from dainv_bench.timing import queued_meter_for
from dainv_kernels import backend_status, invariance_loss
from dainv_kernels.layout import sample_rows

SMALL = Case(12, 3, (4, 5, 5))
TINY = {"batch_size": 16, "views": 4, "rounds": 3, "device": "cpu", "workloads": ("layer9",), "dtype": ("float32",)}
QUICK_METHODS = ("torch", "relu+torch", "relu", "published", "cdist", "closed-form")


@pytest.fixture(autouse=True)
def _small_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(bandwidth._COPY_BYTES, "cpu", 1 << 16)
    monkeypatch.setattr(bandwidth, "_CPU_CACHE_BYTES", 1 << 16)


def run(**settings: Any) -> dict[str, Any]:
    return measure(KernelSettings(**{**TINY, "methods": QUICK_METHODS, **settings}))


def eq3_by_pairs(rows: Tensor, ids: Tensor) -> Tensor:
    """The mean of d over distinct pairs of a group over its mean over distinct pairs, pair by pair."""
    x = rows.double()
    d = (x[:, None] - x[None, :]).square().mean(-1)
    distinct = ~torch.eye(len(x), dtype=torch.bool)
    return d[(ids[:, None] == ids[None, :]) & distinct].mean() / d[distinct].mean()


# What is timed


def test_layers_are_those_of_the_network() -> None:
    _, activations = AllCNNC()(torch.zeros(1, 3, 32, 32)), AllCNNC().forward_taps(torch.zeros(1, 3, 32, 32))[1]
    assert layer_shapes() == {name: tuple(x.shape[1:]) for name, x in activations.items()}


def test_every_layer_is_timed_once_and_all_together() -> None:
    found = {workload.name: workload for workload in workloads(torch.float32)}
    shapes = list(layer_shapes().values())
    single = [workload.cases[0].shape for name, workload in found.items() if name.startswith("layer")]
    assert sorted(single) == sorted(set(shapes))
    assert [case.shape for case in found["all-layers"].cases] == shapes
    assert found["all-layers"].nbytes == 4 * 128 * sum(math.prod(shape) for shape in shapes)
    assert {case.layout for workload in found.values() for case in workload.cases} == set(LAYOUTS)


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_a_gigabyte_is_one_in_every_dtype(dtype: torch.dtype) -> None:
    (workload,) = (one for one in workloads(dtype) if one.name == "gigabyte")
    assert workload.nbytes == 1 << 30
    assert {case.dtype for case in workload.cases} == {dtype}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_input_sets_are_equal_and_apart(layout: str) -> None:
    case = replace(SMALL, layout=layout, dtype=torch.bfloat16)
    sets = make_sets(Workload("one", (case,)), 3, 0, CPU)
    (x,), (upstream,) = sets[0]
    assert x.shape == upstream.shape == (12, 4, 5, 5)
    assert x.stride(0) == (200 if layout == "sliced" else 100)
    assert x.is_contiguous(memory_format=torch.channels_last) == (layout in ("channels_last", "shuffled-ids"))
    for (other,), (other_upstream,) in sets[1:]:
        assert torch.equal(other, x)
        assert torch.equal(other_upstream, upstream)
        assert other.stride() == x.stride()
        assert other.requires_grad
    assert len({one.features[0].data_ptr() for one in sets}) == 3


def test_groups_are_those_of_the_ids() -> None:
    for layout in LAYOUTS:
        case = replace(SMALL, layout=layout)
        ids = case.ids("cpu")
        assert ids.bincount().tolist() == [3] * 4
        assert torch.equal(ids, ids.sort().values) == (layout != "shuffled-ids")
        x = make_sets(Workload("one", (case,)), 1, 0, CPU)[0].features[0]
        expected = eq3_by_pairs(sample_rows(x.detach()), ids)
        assert invariance_loss(x, case.groups("cpu")).item() == pytest.approx(expected.item(), rel=1e-5)
        assert 0.05 < expected < 0.95  # neither structure nor noise alone


@pytest.mark.parametrize("peer", [peers.published, peers.cdist, peers.closed_form], ids=lambda peer: peer.__name__)
@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_peer_is_eq3_over_explicit_pairs(peer: Any, shuffled: bool, dtype: torch.dtype) -> None:
    ids = torch.arange(5).repeat_interleave(3)
    ids = ids[torch.randperm(15, generator=torch.Generator().manual_seed(0))] if shuffled else ids
    rows = torch.randn(15, 40, generator=torch.Generator().manual_seed(1)).to(dtype)
    assert peer(ids)(rows).item() == pytest.approx(eq3_by_pairs(rows, ids).item(), rel=1e-5)


def test_every_backend_is_a_method_and_a_missing_one_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(backend_status()) < set(methods.methods())
    monkeypatch.setattr(methods, "backend_status", lambda: {"torch": "works", "abacus": "too few beads"})
    found = methods.methods()
    assert [name for name, method in found.items() if method.ours] == ["torch", "abacus", "relu+torch", "relu+abacus"]
    assert found["abacus"].why_not(workloads(torch.float32)[0], CPU) == "too few beads"
    assert found["torch"].why_not(workloads(torch.float32)[0], CPU) is None


def test_pairs_are_not_waited_for_where_they_are_many() -> None:
    reference = methods.methods()["reference"]
    assert reference.why_not(Workload("few", (SMALL,)), CPU) is None
    assert "differences of pairs" in str(reference.why_not(Workload("many", (Case(128, 8, (96, 32, 32)),)), CPU))


@pytest.mark.parametrize(
    ("name", "forward", "backward"), [("torch", 1, 2), ("relu+torch", 2, 3), ("relu", 2, 3), ("published", 1, 2)]
)
def test_bytes_by_model(name: str, forward: int, backward: int) -> None:
    workload, method = Workload("one", (SMALL, SMALL)).to(torch.bfloat16), methods.methods()[name]
    one_pass = 2 * 12 * 100 * 2
    assert method.nbytes(workload, "forward") == forward * one_pass
    assert method.nbytes(workload, "backward") == backward * one_pass
    assert method.nbytes(workload, "both") == (forward + backward) * one_pass


def test_sets_are_more_than_the_cache_holds_but_not_too_many() -> None:
    cache = bandwidth._CPU_CACHE_BYTES
    for nbytes in (100, cache // 10, cache, 100 * cache):
        number = sets_beyond_cache(nbytes, CPU)
        assert 2 <= number <= 128
        assert number == 128 or number * nbytes >= 2 * cache


# Who is right


def altered(of_layer: OfLayer, form: str = LOSS) -> Method:
    return Method("altered", "wrong on purpose", form, lambda _case, _device: of_layer, ours=True)


def complaint_about(method: Method, dtype: torch.dtype = torch.float32) -> str | None:
    workload = Workload("two", (SMALL, replace(SMALL, shape=(7, 3, 3)))).to(dtype)
    inputs = make_sets(workload, 1, 0, CPU)[0]
    return complaint(measure_errors(method, method.prepare(workload, CPU), workload, inputs))


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
@pytest.mark.parametrize("name", [*QUICK_METHODS, "reference"])
def test_methods_are_right(name: str, dtype: torch.dtype) -> None:
    assert complaint_about(methods.methods()[name], dtype) is None


def right(x: Tensor) -> Tensor:
    return peers.closed_form(SMALL.ids("cpu"))(sample_rows(x))


class _HalfWritten(torch.autograd.Function):
    """Right in the forward pass; forgets the last half of the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return right(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        x = ctx.saved_tensors[0].detach().requires_grad_()
        with torch.enable_grad():
            (full,) = torch.autograd.grad(right(x), x, grads[0])
        written = torch.empty_like(full)
        written[:6] = full[:6]
        return written


@pytest.mark.parametrize(
    ("of_layer", "what"),
    [
        (lambda x: (1.001 * right(x),), "loss off by 1.0e-03"),
        (lambda x: (right(x).detach() + 0 * right(x),), "gradient off by 1.0e"),
        (lambda x: (right(x) + 1e-3 * (right(x) - right(x).detach()),), "gradient off by 1.0e-03"),
        (lambda x: (right(x) * torch.nan,), "loss off by nan"),
        (lambda x: (_HalfWritten.apply(x),), "gradient off by nan"),
    ],
    ids=["loss", "no gradient", "gradient", "nan", "unwritten"],
)
def test_what_is_wrong_is_seen(of_layer: OfLayer, what: str) -> None:
    assert what in str(complaint_about(altered(of_layer)))


def test_an_activation_that_is_not_the_relu_is_seen() -> None:
    with pytest.raises(ArithmeticError, match="not the ReLU"):
        complaint_about(altered(lambda x: (torch.nn.functional.leaky_relu(x),), RELU))


def test_checking_does_not_leave_torch_deterministic() -> None:
    complaint_about(methods.methods()["torch"])
    assert not torch.are_deterministic_algorithms_enabled()


# How it is timed


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


@pytest.fixture(scope="module")
def result() -> Iterator[dict[str, Any]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(bandwidth._COPY_BYTES, "cpu", 1 << 16)
        patch.setattr(bandwidth, "_CPU_CACHE_BYTES", 1 << 16)
        names = (*QUICK_METHODS, "triton")
        yield run(workloads=("shuffled-ids", "layer9"), dtype=("float32", "bfloat16"), methods=names)


def test_everything_is_timed_in_the_order_asked_for(result: dict[str, Any]) -> None:
    assert list(result["workloads"]) == [
        "shuffled-ids float32", "shuffled-ids bfloat16", "layer9 float32", "layer9 bfloat16"
    ]  # fmt: skip
    for workload in result["workloads"].values():
        assert set(workload["methods"]) == {*QUICK_METHODS, "triton"}
        triton = workload["methods"]["triton"]
        assert triton["not_run"]
        assert triton["passes"] == {}
        for name in QUICK_METHODS:
            assert list(workload["methods"][name]["passes"]) == list(replay.DIRECTIONS)
    assert result["left_out"] == []
    assert not result["interrupted"]


def test_derived_numbers_come_from_the_samples(result: dict[str, Any]) -> None:
    workload = result["workloads"]["layer9 bfloat16"]
    assert workload["feature_bytes"] == 16 * 640 * 2
    copies = workload["copy_milliseconds"]
    assert len(copies) == len(workload["orders"]) == 3
    rate = sorted(workload["copy_bytes"] / t / 1e6 for t in copies)[1]
    assert workload["copy_gigabytes_per_second"] == pytest.approx(rate)
    for method in workload["methods"].values():
        for one in method["passes"].values():
            shares = [
                100 * (one["model_bytes"] / t) / (workload["copy_bytes"] / c)
                for t, c in zip(one["milliseconds"], copies, strict=True)
            ]
            assert one["percent_of_copy"] == pytest.approx(median_interval(shares))
            assert one["median_milliseconds"] == sorted(one["milliseconds"])[1]
            assert one["gigabytes_per_second"] == pytest.approx(one["model_bytes"] / one["median_milliseconds"] / 1e6)


def test_who_is_wrong_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    add(monkeypatch, "slightly-off", lambda _case, _device: lambda x: (1.001 * invariance_loss(x, IDS),))
    found = run(methods=("torch", "slightly-off"))
    wrong = found["workloads"]["layer9 float32"]["methods"]["slightly-off"]
    assert "loss off by 1.0e-03" in wrong["wrong"]
    assert wrong["passes"] == {}
    assert found["workloads"]["layer9 float32"]["methods"]["torch"]["passes"]
    assert wrong_methods(found) == [f"slightly-off on layer9 float32: {wrong['wrong']}"]


IDS = torch.arange(4).repeat_interleave(4)


def add(monkeypatch: pytest.MonkeyPatch, name: str, of_layer: Any, ours: bool = True) -> None:
    there = methods.methods()
    there[name] = Method(name, "for a test", LOSS, of_layer, ours=ours)
    monkeypatch.setattr(suite, "methods", lambda: there)


@pytest.mark.parametrize(
    ("error", "ours", "entry"),
    [
        (RuntimeError("no compiler\nand a long story"), False, "not_run"),
        (ValueError("no such form"), True, "not_run"),
        (RuntimeError("illegal memory access"), True, "wrong"),
    ],
    ids=["a peer", "a form that is not offered", "one of ours"],
)
def test_who_raises_does_not_stop_the_others(
    error: Exception, ours: bool, entry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of_layer(_case: Case, _device: torch.device) -> OfLayer:
        raise error

    add(monkeypatch, "raising", of_layer, ours)
    entries = run(methods=("raising", "torch"))["workloads"]["layer9 float32"]["methods"]
    assert str(error).splitlines()[0] in entries["raising"][entry]
    assert "long story" not in entries["raising"][entry]
    assert entries["torch"]["passes"]


def pressing_ctrl_c(monkeypatch: pytest.MonkeyPatch, call: int) -> None:
    calls = 0

    def of_layer(_case: Case, _device: torch.device) -> OfLayer:
        def loss(x: Tensor) -> tuple[Tensor]:
            nonlocal calls
            calls += 1
            if calls == call:
                raise KeyboardInterrupt
            return (invariance_loss(x, IDS),)

        return loss

    add(monkeypatch, "pressing", of_layer)


def test_ctrl_c_keeps_finished_rounds_and_workloads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bandwidth, "_MOST_SETS", 2)
    # Once checked, twice prepared, warm-up of forward and both: 5 calls, then 2 a round.
    pressing_ctrl_c(monkeypatch, 5 + 2 * 4 + 1)
    written: list[int] = []
    found = measure(
        KernelSettings(**{**TINY, "rounds": 9, "methods": ("pressing",), "workloads": ("layer9", "layer6-8")}),
        on_result=lambda result: written.append(len(result["workloads"])),
    )
    assert found["interrupted"]
    assert list(found["workloads"]) == ["layer9 float32"]
    assert len(found["workloads"]["layer9 float32"]["orders"]) == 4
    assert written[-1] == 1


def test_ctrl_c_before_there_is_enough_to_say_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    pressing_ctrl_c(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        run(methods=("pressing",))


def test_workloads_for_which_there_is_no_time_are_named() -> None:
    found = run(workloads=("layer9", "layer6-8"), methods=("torch",), seconds=1e-9)
    assert list(found["workloads"]) == ["layer9 float32"]
    assert found["left_out"] == ["layer6-8 float32"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"batch_size": 8}, "--batch-size 8"),
        ({"batch_size": 24, "views": 16}, "--batch-size 24"),
        ({"rounds": 2}, "--rounds: expected at least 3"),
        ({"seconds": 0}, "--seconds: expected a positive number"),
        ({"seed": -1}, "--seed"),
        ({"dtype": ("int8",)}, "--dtype: expected of float32"),
        ({"backend": "abacus"}, "--backend: expected all or one of reference"),
        ({"workloads": ("layer10",)}, "--workloads: nothing is called 'layer10'"),
        ({"methods": ("theirs",)}, "--methods: nothing is called 'theirs'"),
    ],
    ids=str,
)
def test_what_cannot_be_measured_is_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError, match=f"^{reason}"):
        KernelSettings(**{"batch_size": 16, "views": 8, **options})


# The command


@pytest.fixture
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)


def command(*options: str) -> Result:
    tiny = ["--batch-size", "16", "--views", "4", "--rounds", "3", "--device", "cpu", "--workloads", "layer9"]
    return CliRunner().invoke(main, ["kernels", *tiny, "--dtype", "float32", *options])


@pytest.mark.usefixtures("_elsewhere")
def test_tables_and_file() -> None:
    done = command("--methods", "torch,triton,relu,published", "--out", "one.json")
    assert done.exit_code == 0, done.output
    table = [line for line in done.output.splitlines() if line[:1] in "┏┃┡│└"]
    assert all(len(line) <= 80 for line in table)
    for name in ("torch", "triton", "relu", "published"):
        assert any(line.startswith(f"│ {name} ") for line in table)
    assert "triton not run: " in done.output
    assert "written to one.json" in done.output
    assert "\x1b" not in done.output
    written = json.loads(Path("one.json").read_text())
    assert written["suite"] == "kernels"
    assert written["environment"]["commit"] is None or len(written["environment"]["commit"]) == 40


@pytest.mark.usefixtures("_elsewhere")
def test_one_backend_leaves_the_others_of_ours_out() -> None:
    assert command("--backend", "torch", "--methods", "torch,triton,reference,relu", "--out", "one.json").exit_code == 0
    entries = json.loads(Path("one.json").read_text())["workloads"]["layer9 float32"]["methods"]
    assert list(entries) == ["torch", "relu"]


@pytest.mark.usefixtures("_elsewhere")
def test_a_wrong_method_is_a_failure_without_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    add(monkeypatch, "slightly-off", lambda _case, _device: lambda x: (1.001 * invariance_loss(x, IDS),))
    done = command("--methods", "slightly-off,relu", "--out", "one.json")
    assert done.exit_code == 1
    assert "slightly-off wrong: loss off by 1.0e-03" in done.output
    (row,) = (line for line in done.output.splitlines() if line.startswith("│ slightly-off"))
    assert not any(character.isdigit() for character in row)


@pytest.mark.usefixtures("_elsewhere")
def test_quick_does_not_replace_a_measurement() -> None:
    small = ["--batch-size", "16", "--views", "4", "--rounds", "3", "--methods", "relu", "--device", "cpu"]
    assert CliRunner().invoke(main, ["kernels", "--quick", *small]).exit_code == 0
    (path,) = Path("benchmarks/results").iterdir()
    assert path.name.startswith("kernels-quick--")
    assert list(json.loads(path.read_text())["workloads"]) == ["layer6-8 float32", "layer9 float32"]


# What only a GPU can show


@pytest.mark.gpu
@pytest.mark.parametrize("direction", replay.DIRECTIONS)
@pytest.mark.parametrize("name", ["torch", "triton", "relu+triton", "published", "cdist", "closed-form", "compiled"])
def test_a_method_is_recorded_and_replayed(name: str, direction: str) -> None:
    device, method = torch.device("cuda"), methods.methods()[name]
    workload = Workload("two", (SMALL, replace(SMALL, shape=(7, 3, 3))))
    sets = make_sets(workload, 3, 0, device)
    with suite._as_timed():
        operation = method.prepare(workload, device)
        assert complaint(measure_errors(method, operation, workload, sets[0])) is None
        timed = replay.OnGPU(device).prepare(lambda: replay.calls_on(method, operation, workload, sets, direction))
    sample = queued_meter_for(device)(lambda: timed.work(0))
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
    milliseconds = queued_meter_for(device)(lambda: timed.work(0)).milliseconds / timed.calls
    assert 10 < bandwidth.gigabytes_per_second(copy.nbytes, milliseconds) < 100_000
