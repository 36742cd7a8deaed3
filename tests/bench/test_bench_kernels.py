from __future__ import annotations

from typing import Any

import pytest
import torch
from bench_helpers import KERNEL_METHODS, last
from click.testing import CliRunner
from torch import Tensor

from dainv_bench import timing
from dainv_bench.cli import main
from dainv_bench.kernels import bandwidth, methods, replay, settings, suite
from dainv_bench.kernels.cases import Case
from dainv_bench.kernels.methods import LOSS, Method, OfLayer
from dainv_bench.kernels.results import wrong_methods
from dainv_bench.kernels.settings import KernelSettings
from dainv_bench.kernels.suite import measure
from dainv_bench.statistics import median_interval
from dainv_kernels import invariance_loss

TINY = {"batch_size": 16, "views": 4, "rounds": 3, "device": "cpu", "workloads": ("layer9",), "dtype": ("float32",)}


def run(**options: Any) -> dict[str, Any]:
    return last(measure(KernelSettings(**{**TINY, "methods": KERNEL_METHODS, **options})))


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    names = (*KERNEL_METHODS, "triton")
    return run(workloads=("shuffled-ids", "layer9"), dtype=("float32", "bfloat16"), methods=names)


def test_everything_is_timed_in_the_order_asked_for(result: dict[str, Any]) -> None:
    assert list(result["workloads"]) == [
        "shuffled-ids float32", "shuffled-ids bfloat16", "layer9 float32", "layer9 bfloat16"
    ]  # fmt: skip
    for workload in result["workloads"].values():
        assert set(workload["methods"]) == {*KERNEL_METHODS, "triton"}
        triton = workload["methods"]["triton"]
        assert triton["not_run"]
        assert triton["passes"] == {}
        for name in KERNEL_METHODS:
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
    monkeypatch.setattr(settings, "methods", lambda: there)


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
    found = run(rounds=9, methods=("pressing",), workloads=("layer9", "layer6-8"))
    assert found["interrupted"]
    assert list(found["workloads"]) == ["layer9 float32"]
    assert len(found["workloads"]["layer9 float32"]["orders"]) == 4


def test_workloads_for_which_there_is_no_time_are_named() -> None:
    found = run(workloads=("layer9", "layer6-8"), methods=("relu",), rounds=9, seconds=1e-9)
    assert list(found["workloads"]) == ["layer9 float32"]
    assert len(found["workloads"]["layer9 float32"]["orders"]) == 3  # the fewest that say anything
    assert found["left_out"] == ["layer6-8 float32"]


def test_each_workload_may_have_its_part_of_the_time_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now, parts = 1000.0, []

    def interleave(*given: Any, seconds: float, **named: Any) -> Any:
        nonlocal now
        parts.append(seconds)
        now += seconds if len(parts) == 1 else 2.0  # the first uses its part, the others are quick
        return timing.interleave(*given, **named)

    monkeypatch.setattr(suite, "interleave", interleave)
    monkeypatch.setattr(suite.time, "monotonic", lambda: now)
    found = run(workloads=("layer9", "layer6-8", "shuffled-ids"), methods=("relu",), seconds=30.0)
    assert parts == [10.0, 10.0, 18.0]
    assert found["left_out"] == []


@pytest.mark.usefixtures("_elsewhere")
def test_a_wrong_method_is_a_failure_without_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    add(monkeypatch, "slightly-off", lambda _case, _device: lambda x: (1.001 * invariance_loss(x, IDS),))
    tiny = ["--batch-size=16", "--views=4", "--rounds=3", "--device=cpu", "--workloads=layer9", "--dtype=float32"]
    done = CliRunner().invoke(main, ["kernels", *tiny, "--methods=slightly-off,relu", "--out=one.json"])
    assert done.exit_code == 1
    assert "slightly-off wrong (layer9 float32): loss off by 1.0e-03" in done.output
    (row,) = (line for line in done.output.splitlines() if line.startswith("│ slightly-off"))
    assert not any(character.isdigit() for character in row)
