"""What a GPU is expected to show, as data, and what it showed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypedDict

import numpy as np

from dainv_bench.kernels.results import wrong_methods
from dainv_bench.statistics import Interval, median_interval

H200 = "H200"
_ALL_LAYERS = "all-layers"
_FUSED_ARM = "ours-fused"


class Measured(NamedTuple):
    """A number, with its 95 % interval where there is one, and what there is to say about it."""

    value: float
    low: float | None = None
    high: float | None = None
    reason: str | None = None


class Unknown(Exception):
    """Why there is no number."""


Results = Mapping[str, Mapping[str, Any]]  # stage -> what its suite wrote


@dataclass(frozen=True)
class Goal:
    """A number and its limit.

    Attributes:
        name: what is measured, with its unit.
        limit: what it may be.
        at_most: whether the limit is an upper one.
        stage: whose result it is read from.
        read: reads it; given the result and ``of``.
        of: what of it.
        only_on: part of the name of the device that the limit was made for; None for all.
    """

    name: str
    limit: float
    at_most: bool
    stage: str
    read: Callable[..., Measured]
    of: tuple[str, ...] = ()
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
    reason = incomplete.get(goal.stage)
    verdict = "not run"
    measured: Measured | None = None
    try:
        if device_name is None:
            raise Unknown("no CUDA device")
        measured = _read(goal, results, reason)
        reason = measured.reason or reason
        if goal.only_on is not None and goal.only_on not in device_name:
            raise Unknown(f"the limit is for an {goal.only_on}")
        met = measured.value <= goal.limit if goal.at_most else measured.value >= goal.limit
        verdict = "met" if met else "missed"
    except Unknown as unknown:
        reason = str(unknown)
    value, low, high = (None, None, None) if measured is None else measured[:3]
    return Judged(
        goal=goal.name,
        limit=goal.limit,
        at_most=goal.at_most,
        measured=value,
        low=low,
        high=high,
        verdict=verdict,
        reason=reason,
    )


def _read(goal: Goal, results: Results, incomplete: str | None) -> Measured:
    if goal.stage not in results:
        raise Unknown(incomplete or f"no result of stage {goal.stage}")
    try:
        measured = goal.read(results[goal.stage], *goal.of)
        if measured.value is None:  # null in a file
            raise Unknown("what was measured is not a number")
        return measured
    except (LookupError, TypeError, ValueError) as error:  # of a stage that was stopped: the others still count
        raise Unknown(f"cannot be read from stage {goal.stage} ({type(error).__name__}: {error})") from None


def _best_of_ours(kernels: Mapping[str, Any], dtype: str) -> Mapping[str, Any]:
    """The method of ours whose loss, forward and backward, is cheapest on all layers."""
    workload = kernels["workloads"].get(f"{_ALL_LAYERS} {dtype}")
    if workload is None:
        raise Unknown(f"no workload {_ALL_LAYERS} {dtype}")
    ours = [m for m in workload["methods"].values() if m["ours"] and m["form"] == "loss" and "both" in m["passes"]]
    if not ours:
        raise Unknown("no backend of ours was timed")
    best: Mapping[str, Any] = min(ours, key=lambda method: method["passes"]["both"]["median_milliseconds"])
    return best


def _microseconds(kernels: Mapping[str, Any], direction: str, dtype: str) -> Measured:
    milliseconds = _best_of_ours(kernels, dtype)["passes"][direction]["milliseconds"]
    return _with_interval(median_interval(1e3 * np.asarray(milliseconds)))


def _percent_of_copy(kernels: Mapping[str, Any], direction: str, dtype: str) -> Measured:
    return _with_interval(_best_of_ours(kernels, dtype)["passes"][direction]["percent_of_copy"])


def _times_faster_than(kernels: Mapping[str, Any], peer: str) -> Measured:
    best = _best_of_ours(kernels, "float32")
    other = kernels["workloads"][f"{_ALL_LAYERS} float32"]["methods"].get(peer)
    if other is None or "both" not in other["passes"]:
        raise Unknown(f"{peer}: {'not asked for' if other is None else other['not_run'] or other['wrong']}")
    theirs, mine = (np.asarray(one["passes"]["both"]["milliseconds"]) for one in (other, best))
    return _with_interval(median_interval(theirs / mine))


def _loss_error(kernels: Mapping[str, Any], dtype: str) -> Measured:
    errors = [
        error
        for workload in kernels["workloads"].values()
        if workload["dtype"] == dtype
        for method in workload["methods"].values()
        if method["ours"] and method["errors"] is not None and method["errors"]["loss"] is not None
        if (error := method["errors"]["loss"]["error"]) is not None  # null: NaN, which counts as wrong
    ]
    if not errors:
        raise Unknown("no backend of ours was checked")
    return Measured(max(errors))


def _wrong_kernels(kernels: Mapping[str, Any]) -> Measured:
    wrong = wrong_methods(kernels, only_ours=True)
    return Measured(len(wrong), reason="; ".join(wrong) or None)


def _captured_overhead(captured: Mapping[str, Any]) -> Measured:
    fused = [step for step in captured["steps"].values() if step["arm"] == _FUSED_ARM]
    overheads = [step["overhead_percent"] for step in fused if step["overhead_percent"] is not None]
    if not overheads:
        raise Unknown(f"{_FUSED_ARM}: {fused[0]['not_run'] if fused else 'no such arm'}")
    return _with_interval(min(overheads, key=lambda overhead: overhead["median"]))


def _whole_run(training: Mapping[str, Any], precision: str) -> Measured:
    return Measured(_precision(training, precision)["seconds_of_350_epochs"])


def _off_after_recording(training: Mapping[str, Any], precision: str) -> Measured:
    return Measured(_recorded(training, precision)["update_error"])


def _share_of_step(training: Mapping[str, Any], precision: str, part: str) -> Measured:
    return _with_interval(_recorded(training, precision)[part])


def _precision(training: Mapping[str, Any], precision: str) -> Mapping[str, Any]:
    one: Mapping[str, Any] | None = training["precisions"].get(precision)
    if one is None:
        raise Unknown(f"no precision {precision}")
    return one


def _recorded(training: Mapping[str, Any], precision: str) -> Mapping[str, Any]:
    one = _precision(training, precision)
    if one["not_recorded"] is not None:
        raise Unknown(one["not_recorded"])
    return one


def _fused_launches(launches: Mapping[str, Any]) -> Measured:
    arm = launches["arms"].get(_FUSED_ARM)
    if arm is None or arm["beyond_baseline"] is None:
        raise Unknown(f"{_FUSED_ARM}: {'no such arm' if arm is None else arm['not_run']}")
    return Measured(arm["beyond_baseline"])


def _host_waits(launches: Mapping[str, Any]) -> Measured:
    ours = {name: arm["host_waits"] for name, arm in launches["arms"].items() if name.startswith("ours")}
    waiting = [f"{name}: {waits}" for name, waits in ours.items() if waits is not None]
    return Measured(len(waiting), reason="; ".join(waiting) or None)


def _failed_tests(tests: Mapping[str, Any]) -> Measured:
    if tests["passed"] == 0:
        raise Unknown("no test ran")
    return Measured(tests["failed"])


def _with_interval(interval: Interval) -> Measured:
    return Measured(interval["median"], interval["low"], interval["high"])


_FP32, _BF16 = "float32", "bfloat16"
_OBJECTIVE, _AUGMENTATION = "overhead_percent", "augmentation_percent"

GOALS: tuple[Goal, ...] = (
    Goal("failed tests marked gpu", 0, True, "tests", _failed_tests),
    Goal("backends beyond their error bound", 0, True, "kernels", _wrong_kernels),
    Goal("error of a bfloat16 loss", 1e-6, True, "kernels", _loss_error, (_BF16,)),
    Goal("forward, nine layers, float32, µs", 53, True, "kernels", _microseconds, ("forward", _FP32), H200),
    Goal("forward, nine layers, bfloat16, µs", 30, True, "kernels", _microseconds, ("forward", _BF16), H200),
    Goal("backward, nine layers, float32, µs", 106, True, "kernels", _microseconds, ("backward", _FP32), H200),
    Goal("backward, nine layers, bfloat16, µs", 57, True, "kernels", _microseconds, ("backward", _BF16), H200),
    Goal("forward, float32, % of copy", 80, False, "kernels", _percent_of_copy, ("forward", _FP32)),
    Goal("forward, bfloat16, % of copy", 80, False, "kernels", _percent_of_copy, ("forward", _BF16)),
    Goal("backward, float32, % of copy", 80, False, "kernels", _percent_of_copy, ("backward", _FP32)),
    Goal("backward, bfloat16, % of copy", 80, False, "kernels", _percent_of_copy, ("backward", _BF16)),
    Goal("times faster than published", 10, False, "kernels", _times_faster_than, ("published",)),
    Goal("times faster than closed-form", 4, False, "kernels", _times_faster_than, ("closed-form",)),
    Goal("times faster than compiled", 1.3, False, "kernels", _times_faster_than, ("compiled",)),
    Goal("200 recorded updates off, fp32", 0.01, True, "training", _off_after_recording, ("fp32",)),
    Goal("200 recorded updates off, tf32", 0.05, True, "training", _off_after_recording, ("tf32",)),
    Goal("200 recorded updates off, bf16", 0.05, True, "training", _off_after_recording, ("bf16",)),
    Goal("objective in a whole step, tf32, %", 1, True, "training", _share_of_step, ("tf32", _OBJECTIVE)),
    Goal("objective in a whole step, bf16, %", 1, True, "training", _share_of_step, ("bf16", _OBJECTIVE)),
    Goal("augmentation, tf32, % of a step", 3, True, "training", _share_of_step, ("tf32", _AUGMENTATION)),
    Goal("augmentation, bf16, % of a step", 3, True, "training", _share_of_step, ("bf16", _AUGMENTATION)),
    Goal("350 epochs, tf32, s", 240, True, "training", _whole_run, ("tf32",), H200),
    Goal("350 epochs, bf16, s", 150, True, "training", _whole_run, ("bf16",), H200),
    Goal("arms whose host waits for the GPU", 0, True, "launches", _host_waits),
    Goal("launches beyond the baseline's", 2, True, "launches", _fused_launches),
    Goal("step, ReLU and sums fused, %", 3, True, "captured-norm", _captured_overhead),
    Goal("step, bias, ReLU, sums fused, %", 1, True, "captured", _captured_overhead),
    Goal("the same, compiled, %", 1, True, "captured-compiled", _captured_overhead),
)
