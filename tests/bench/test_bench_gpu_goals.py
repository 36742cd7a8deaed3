"""What a GPU is expected to show, judged by results that are made up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from dainv_bench.gpu.goals import Judged, judge_goals
from dainv_bench.gpu.stages import STAGES
from dainv_bench.overhead.arms import BASELINE


def one_pass(milliseconds: float, share: float = 90.0) -> dict[str, Any]:
    samples = [milliseconds * factor for factor in (0.99, 1.0, 1.01)]
    return {
        "milliseconds": samples,
        "median_milliseconds": milliseconds,
        "percent_of_copy": {"median": share, "low": share - 1, "high": share + 1},
    }


def method(milliseconds: float, ours: bool = False, error: float = 1e-7, form: str = "loss") -> dict[str, Any]:
    return {
        "ours": ours,
        "form": form,
        "not_run": None,
        "wrong": None,
        "errors": {"loss": {"error": error, "bound": 1e-5}, "gradient": {"error": error, "bound": 1e-5}},
        "passes": {name: one_pass(n * milliseconds) for n, name in enumerate(("forward", "backward", "both"), 1)},
    }


def kernels_result(**methods: Mapping[str, Any]) -> dict[str, Any]:
    found = {"slow": method(9.0, ours=True), "relu+fast": method(0.001, ours=True, form="relu+loss"), **methods}
    return {
        "workloads": {f"all-layers {dtype}": {"dtype": dtype, "methods": found} for dtype in ("float32", "bfloat16")}
    }


def judged(name: str, results: Mapping[str, Mapping[str, Any]], device: str | None = "NVIDIA H200") -> Judged:
    (one,) = (goal for goal in judge_goals(results, {"kernels": "timed out"}, device) if goal["goal"] == name)
    return one


@pytest.mark.parametrize(
    ("name", "milliseconds", "measured", "verdict"),
    [
        ("forward, nine layers, float32, µs", 0.0525, 52.5, "met"),
        ("forward, nine layers, float32, µs", 0.0535, 53.5, "missed"),
        ("backward, nine layers, bfloat16, µs", 0.028, 56, "met"),
        ("backward, nine layers, bfloat16, µs", 0.029, 58, "missed"),
    ],
)
def test_times_are_those_of_our_fastest_backend(name: str, milliseconds: float, measured: float, verdict: str) -> None:
    goal = judged(name, {"kernels": kernels_result(fast=method(milliseconds, ours=True), relu=method(1e-4))})
    assert goal["measured"] == pytest.approx(measured)
    assert goal["low"] == pytest.approx(0.99 * measured)
    assert goal["verdict"] == verdict


def test_times_are_judged_only_where_the_limit_was_made_for() -> None:
    results = {"kernels": kernels_result(fast=method(0.5, ours=True))}
    name = "forward, nine layers, float32, µs"
    assert judged(name, results)["verdict"] == "missed"
    elsewhere = judged(name, results, "NVIDIA A100")
    assert (elsewhere["verdict"], elsewhere["measured"]) == ("not run", pytest.approx(500))
    assert "H200" in str(elsewhere["reason"])
    assert judged("forward, float32, % of copy", results, "NVIDIA A100")["verdict"] == "met"


@pytest.mark.parametrize(("factor", "verdict"), [(9.9, "missed"), (10.1, "met")])
def test_ratios_to_peers(factor: float, verdict: str) -> None:
    results = {"kernels": kernels_result(fast=method(0.05, ours=True), published=method(0.05 * factor))}
    goal = judged("times faster than published", results)
    assert goal["measured"] == pytest.approx(factor)
    assert goal["verdict"] == verdict


def test_a_peer_that_was_not_run_says_why() -> None:
    missing = method(1.0) | {"passes": {}, "not_run": "no compiler"}
    results = {"kernels": kernels_result(fast=method(0.05, ours=True), compiled=missing)}
    goal = judged("times faster than compiled", results)
    assert (goal["verdict"], goal["measured"], goal["reason"]) == ("not run", None, "compiled: no compiler")


def test_errors_of_ours_are_judged_and_not_those_of_peers() -> None:
    results = {"kernels": kernels_result(fast=method(1.0, ours=True, error=5e-7), peer=method(1.0, error=1e-3))}
    assert judged("error of a bfloat16 loss", results)["measured"] == 5e-7
    assert judged("error of a bfloat16 loss", results)["verdict"] == "met"
    wrong = method(1.0, ours=True) | {"wrong": "loss off", "passes": {}}
    lost = method(1.0, ours=True) | {"errors": {"loss": {"error": None, "bound": 1e-5}}, "wrong": "nan", "passes": {}}
    assert judged("error of a bfloat16 loss", {"kernels": kernels_result(bad=lost)})["measured"] == 1e-7
    counted = judged("backends beyond their error bound", {"kernels": kernels_result(bad=wrong)})
    assert (counted["measured"], counted["verdict"]) == (2, "missed")
    assert "bad on all-layers float32: loss off" in str(counted["reason"])


def test_without_a_result_or_a_gpu_nothing_is_judged() -> None:
    for device, results, reason in (
        (None, {"kernels": kernels_result(fast=method(0.01, ours=True))}, "no CUDA device"),
        ("NVIDIA H200", {}, "timed out"),
    ):
        for goal in judge_goals(results, {stage.name: "timed out" for stage in STAGES}, device):
            assert (goal["verdict"], goal["measured"], goal["reason"]) == ("not run", None, reason)


def test_half_of_a_result_costs_its_goals_alone() -> None:
    half = {"kernels": {"workloads": {"all-layers float32": {"dtype": "float32"}}}, "tests": {"passed": 9, "failed": 0}}
    assert judged("failed tests marked gpu", half)["verdict"] == "met"
    lost = judged("forward, nine layers, float32, µs", half)
    assert lost["verdict"] == "not run"
    assert lost["reason"] == "cannot be read from stage kernels (KeyError: 'methods')"


def captured_result(overhead: float | None) -> dict[str, Any]:
    interval = None if overhead is None else {"median": overhead, "low": overhead - 1, "high": overhead + 1}
    worse = None if overhead is None else {"median": overhead + 5, "low": overhead, "high": overhead + 9}
    step = {"arm": "ours-fused", "not_run": "no CUDA device" if overhead is None else None}
    return {
        "steps": {
            "published": {"arm": "published", "not_run": None, "overhead_percent": {"median": 0, "low": 0, "high": 0}},
            "a": step | {"overhead_percent": worse},
            "b": step | {"overhead_percent": interval},
        }
    }


def test_steps_are_judged_by_the_best_form_of_the_fused_arm() -> None:
    results = {"captured": captured_result(1.2), "captured-norm": captured_result(1.2)}
    bias, relu = judged("step, bias, ReLU, sums fused, %", results), judged("step, ReLU and sums fused, %", results)
    assert (bias["measured"], bias["verdict"], relu["verdict"]) == (1.2, "missed", "met")
    missing = judged("step, bias, ReLU, sums fused, %", {"captured": captured_result(None)})
    assert (missing["verdict"], missing["reason"]) == ("not run", "ours-fused: no CUDA device")


def test_failed_tests_are_a_missed_goal_and_no_tests_are_none() -> None:
    name = "failed tests marked gpu"
    assert judged(name, {"tests": {"passed": 9, "failed": 0}})["verdict"] == "met"
    assert judged(name, {"tests": {"passed": 9, "failed": 1}})["verdict"] == "missed"
    assert judged(name, {"tests": {"passed": 0, "failed": 0}})["verdict"] == "not run"


def test_a_goal_of_a_stage_that_was_stopped_says_so() -> None:
    goals = judge_goals({"tests": {"passed": 9, "failed": 0}}, {"tests": "stopped after 115 s"}, "NVIDIA H200")
    assert (goals[0]["verdict"], goals[0]["reason"]) == ("met", "stopped after 115 s")


def test_launches_and_waits_are_judged_by_arms_of_ours() -> None:
    arm = {"not_run": None, "launches": 20, "beyond_baseline": 2, "host_waits": None, "more": {}, "fewer": {}}
    results = {"launches": {"arms": {BASELINE: arm, "ours-fused": arm}}}
    assert judged("launches beyond the baseline's", results)["verdict"] == "met"
    assert judged("arms whose host waits for the GPU", results)["verdict"] == "met"
    waiting = {"launches": {"arms": {"ours-fused": arm | {"beyond_baseline": 3, "host_waits": "called .item()"}}}}
    assert judged("launches beyond the baseline's", waiting)["verdict"] == "missed"
    assert judged("arms whose host waits for the GPU", waiting)["measured"] == 1


def training_result(**precisions: Mapping[str, Any]) -> dict[str, Any]:
    return {"training": {"precisions": precisions}}


def interval(median: float) -> dict[str, float]:
    return {"median": median, "low": median - 0.5, "high": median + 0.5}


GOOD = {
    "update_error": 0.001,
    "not_recorded": None,
    "seconds_of_350_epochs": 200.0,
    "overhead_percent": interval(0.5),
    "augmentation_percent": interval(2.9),
}


def test_recorded_training_is_judged_by_its_updates_and_by_350_epochs() -> None:
    results = training_result(fp32=GOOD | {"update_error": 0.02}, tf32=GOOD, bf16=GOOD)
    assert judged("200 recorded updates off, fp32", results)["verdict"] == "missed"
    assert judged("200 recorded updates off, tf32", results)["verdict"] == "met"
    assert judged("350 epochs, tf32, s", results)["verdict"] == "met"
    assert judged("350 epochs, bf16, s", results)["verdict"] == "missed"
    assert judged("350 epochs, bf16, s", results, "NVIDIA A100")["verdict"] == "not run"
    eager = training_result(tf32=GOOD | {"update_error": None, "not_recorded": "cannot be recorded"})
    unrecorded = judged("200 recorded updates off, tf32", eager)
    assert (unrecorded["verdict"], unrecorded["reason"]) == ("not run", "cannot be recorded")
    assert judged("350 epochs, bf16, s", eager)["reason"] == "no precision bf16"


def test_objective_and_augmentation_are_judged_by_their_share_of_a_recorded_step() -> None:
    dear = GOOD | {"overhead_percent": interval(1.2)}
    results = training_result(tf32=dear, bf16=GOOD | {"not_recorded": "cannot be recorded"})
    assert judged("objective in a whole step, tf32, %", results)["verdict"] == "missed"
    augmentation = judged("augmentation, tf32, % of a step", results)
    assert (augmentation["verdict"], augmentation["high"]) == ("met", 3.4)
    eager = judged("augmentation, bf16, % of a step", results)
    assert (eager["verdict"], eager["reason"]) == ("not run", "cannot be recorded")
