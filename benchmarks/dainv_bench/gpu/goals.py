"""What a GPU is expected to show, as data, and what it showed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypedDict

import numpy as np

from dainv_bench.overhead.arms import BASELINE
from dainv_bench.statistics import median_interval

H200 = "H200"
_ALL_LAYERS = "all-layers"
_FUSED_ARM = "ours-fused"


class Measured(NamedTuple):
    """A number, with its 95 % interval where there is one; or the reason why there is none."""

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str | None = None


Results = Mapping[str, Mapping[str, Any]]  # stage -> what its suite wrote


@dataclass(frozen=True)
class Goal:
    """A number and its limit.

    Attributes:
        name: what is measured, with its unit.
        limit: what it may be.
        at_most: whether the limit is an upper one.
        stage: whose result it is read from.
        read: reads it.
        only_on: part of the name of the device that the limit was made for; None for all.
    """

    name: str
    limit: float
    at_most: bool
    stage: str
    read: Callable[[Mapping[str, Any]], Measured]
    only_on: str | None = None


class Judged(TypedDict):
    """A goal and what became of it."""

    goal: str
    limit: float
    at_most: bool
    measured: float | None
    low: float | None
    high: float | None
    verdict: str  # met, missed or not run
    reason: str | None


def judge_goals(results: Results, incomplete: Mapping[str, str], device_name: str | None) -> list[Judged]:
    """Every goal against the results there are; by the median, not by the interval.

    Args:
        results: stage -> result, of the stages that have one.
        incomplete: stage -> why it has none, or not all of it.
        device_name: of the GPU; None without one.
    """
    return [_judge(goal, results, incomplete, device_name) for goal in GOALS]


def _judge(goal: Goal, results: Results, incomplete: Mapping[str, str], device_name: str | None) -> Judged:
    if device_name is None:
        measured = Measured(None, reason="no CUDA device")
    elif goal.stage not in results:
        measured = Measured(None, reason=incomplete.get(goal.stage, f"no result of stage {goal.stage}"))
    else:
        measured = _read(goal, results[goal.stage])
    value, reason = measured.value, measured.reason or incomplete.get(goal.stage)
    if value is None:
        verdict = "not run"
    elif goal.only_on is not None and goal.only_on not in (device_name or ""):
        verdict, reason = "not run", f"the limit is for an {goal.only_on}"
    else:
        verdict = "met" if (value <= goal.limit if goal.at_most else value >= goal.limit) else "missed"
    return Judged(
        goal=goal.name,
        limit=goal.limit,
        at_most=goal.at_most,
        measured=value,
        low=measured.low,
        high=measured.high,
        verdict=verdict,
        reason=reason,
    )


def _read(goal: Goal, result: Mapping[str, Any]) -> Measured:
    try:
        return goal.read(result)
    except (LookupError, TypeError, ValueError) as error:  # of a stage that was stopped: the others still count
        return Measured(None, reason=f"cannot be read from stage {goal.stage} ({type(error).__name__}: {error})")


def _best_of_ours(kernels: Mapping[str, Any], dtype: str) -> tuple[Mapping[str, Any] | None, str]:
    """The method of ours whose loss, forward and backward, is cheapest on all layers; or why there is none."""
    workload = kernels["workloads"].get(f"{_ALL_LAYERS} {dtype}")
    if workload is None:
        return None, f"no workload {_ALL_LAYERS} {dtype}"
    ours = [m for m in workload["methods"].values() if m["ours"] and m["form"] == "loss" and "both" in m["passes"]]
    if not ours:
        return None, "no backend of ours was timed"
    return min(ours, key=lambda method: method["passes"]["both"]["median_milliseconds"]), ""


def _microseconds(direction: str, dtype: str) -> Callable[[Mapping[str, Any]], Measured]:
    def read(kernels: Mapping[str, Any]) -> Measured:
        best, reason = _best_of_ours(kernels, dtype)
        if best is None:
            return Measured(None, reason=reason)
        return _with_interval(1e3 * np.asarray(best["passes"][direction]["milliseconds"]))

    return read


def _percent_of_copy(direction: str, dtype: str) -> Callable[[Mapping[str, Any]], Measured]:
    def read(kernels: Mapping[str, Any]) -> Measured:
        best, reason = _best_of_ours(kernels, dtype)
        if best is None:
            return Measured(None, reason=reason)
        share = best["passes"][direction]["percent_of_copy"]
        return Measured(share["median"], share["low"], share["high"])

    return read


def _times_faster_than(peer: str) -> Callable[[Mapping[str, Any]], Measured]:
    def read(kernels: Mapping[str, Any]) -> Measured:
        best, reason = _best_of_ours(kernels, "float32")
        if best is None:
            return Measured(None, reason=reason)
        other = kernels["workloads"][f"{_ALL_LAYERS} float32"]["methods"].get(peer)
        if other is None or "both" not in other["passes"]:
            why = "not asked for" if other is None else other["not_run"] or other["wrong"]
            return Measured(None, reason=f"{peer}: {why}")
        theirs, mine = (np.asarray(one["passes"]["both"]["milliseconds"]) for one in (other, best))
        return _with_interval(theirs / mine)

    return read


def _loss_error(dtype: str) -> Callable[[Mapping[str, Any]], Measured]:
    def read(kernels: Mapping[str, Any]) -> Measured:
        errors = [
            error
            for workload in kernels["workloads"].values()
            if workload["dtype"] == dtype
            for method in workload["methods"].values()
            if method["ours"] and method["errors"] is not None and method["errors"]["loss"] is not None
            if (error := method["errors"]["loss"]["error"]) is not None  # null: NaN, which counts as wrong
        ]
        return Measured(max(errors)) if errors else Measured(None, reason="no backend of ours was checked")

    return read


def _captured_overhead(captured: Mapping[str, Any]) -> Measured:
    overheads = [
        step["overhead_percent"]
        for step in captured["steps"].values()
        if step["arm"] == _FUSED_ARM and step["overhead_percent"] is not None
    ]
    if not overheads:
        reasons = [step["not_run"] for step in captured["steps"].values() if step["arm"] == _FUSED_ARM]
        return Measured(None, reason=f"{_FUSED_ARM}: {reasons[0] if reasons else 'no such arm'}")
    best = min(overheads, key=lambda overhead: overhead["median"])
    return Measured(best["median"], best["low"], best["high"])


def _off_after_recording(precision: str) -> Callable[[Mapping[str, Any]], Measured]:
    def read(training: Mapping[str, Any]) -> Measured:
        one = training["precisions"].get(precision)
        if one is None or one["update_error"] is None:
            return Measured(None, reason=f"no precision {precision}" if one is None else one["not_recorded"])
        return Measured(one["update_error"])

    return read


def _whole_run(precision: str) -> Callable[[Mapping[str, Any]], Measured]:
    def read(training: Mapping[str, Any]) -> Measured:
        one = training["precisions"].get(precision)
        return (
            Measured(None, reason=f"no precision {precision}")
            if one is None
            else Measured(one["seconds_of_350_epochs"])
        )

    return read


def _share_of_step(part: str, precision: str) -> Callable[[Mapping[str, Any]], Measured]:
    def read(training: Mapping[str, Any]) -> Measured:
        one = training["precisions"].get(precision)
        if one is None or one["not_recorded"] is not None:
            return Measured(None, reason=f"no precision {precision}" if one is None else one["not_recorded"])
        return Measured(one[part]["median"], one[part]["low"], one[part]["high"])

    return read


def _fused_launches(launches: Mapping[str, Any]) -> Measured:
    arm = launches["arms"].get(_FUSED_ARM)
    if arm is None or arm["beyond_baseline"] is None:
        return Measured(None, reason=f"{_FUSED_ARM}: {'no such arm' if arm is None else arm['not_run']}")
    return Measured(arm["beyond_baseline"])


def _host_waits(launches: Mapping[str, Any]) -> Measured:
    ours = {name: arm for name, arm in launches["arms"].items() if name != BASELINE and name.startswith("ours")}
    waiting = [f"{name}: {arm['host_waits']}" for name, arm in ours.items() if arm["host_waits"] is not None]
    return Measured(len(waiting), reason="; ".join(waiting) or None)


def _failed_tests(tests: Mapping[str, Any]) -> Measured:
    if tests["passed"] == 0:
        return Measured(None, reason="no test ran")
    return Measured(tests["failed"])


def _wrong_kernels(kernels: Mapping[str, Any]) -> Measured:
    wrong = [
        f"{name} on {key}: {method['wrong']}"
        for key, workload in kernels["workloads"].items()
        for name, method in workload["methods"].items()
        if method["ours"] and method["wrong"] is not None
    ]
    return Measured(len(wrong), reason="; ".join(wrong) or None)


def _with_interval(samples: Any) -> Measured:
    interval = median_interval(samples)
    return Measured(interval["median"], interval["low"], interval["high"])


GOALS: tuple[Goal, ...] = (
    Goal("failed tests marked gpu", 0, True, "tests", _failed_tests),
    Goal("backends beyond their error bound", 0, True, "kernels", _wrong_kernels),
    Goal("error of a bfloat16 loss", 1e-6, True, "kernels", _loss_error("bfloat16")),
    Goal("forward, nine layers, float32, µs", 53, True, "kernels", _microseconds("forward", "float32"), H200),
    Goal("forward, nine layers, bfloat16, µs", 30, True, "kernels", _microseconds("forward", "bfloat16"), H200),
    Goal("backward, nine layers, float32, µs", 106, True, "kernels", _microseconds("backward", "float32"), H200),
    Goal("backward, nine layers, bfloat16, µs", 57, True, "kernels", _microseconds("backward", "bfloat16"), H200),
    Goal("forward, float32, % of copy", 80, False, "kernels", _percent_of_copy("forward", "float32")),
    Goal("forward, bfloat16, % of copy", 80, False, "kernels", _percent_of_copy("forward", "bfloat16")),
    Goal("backward, float32, % of copy", 80, False, "kernels", _percent_of_copy("backward", "float32")),
    Goal("backward, bfloat16, % of copy", 80, False, "kernels", _percent_of_copy("backward", "bfloat16")),
    Goal("times faster than published", 10, False, "kernels", _times_faster_than("published")),
    Goal("times faster than closed-form", 4, False, "kernels", _times_faster_than("closed-form")),
    Goal("times faster than compiled", 1.3, False, "kernels", _times_faster_than("compiled")),
    Goal("200 recorded updates off, fp32", 0.01, True, "training", _off_after_recording("fp32")),
    Goal("200 recorded updates off, tf32", 0.05, True, "training", _off_after_recording("tf32")),
    Goal("200 recorded updates off, bf16", 0.05, True, "training", _off_after_recording("bf16")),
    Goal("objective in a whole step, tf32, %", 1, True, "training", _share_of_step("overhead_percent", "tf32")),
    Goal("objective in a whole step, bf16, %", 1, True, "training", _share_of_step("overhead_percent", "bf16")),
    Goal("augmentation, tf32, % of a step", 3, True, "training", _share_of_step("augmentation_percent", "tf32")),
    Goal("augmentation, bf16, % of a step", 3, True, "training", _share_of_step("augmentation_percent", "bf16")),
    Goal("350 epochs, tf32, s", 240, True, "training", _whole_run("tf32"), H200),
    Goal("350 epochs, bf16, s", 150, True, "training", _whole_run("bf16"), H200),
    Goal("arms whose host waits for the GPU", 0, True, "launches", _host_waits),
    Goal("launches beyond the baseline's", 2, True, "launches", _fused_launches),
    Goal("step, ReLU and sums fused, %", 3, True, "captured-norm", _captured_overhead),
    Goal("step, bias, ReLU, sums fused, %", 1, True, "captured", _captured_overhead),
    Goal("the same, compiled, %", 1, True, "captured-compiled", _captured_overhead),
)
