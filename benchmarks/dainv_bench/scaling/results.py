"""What ``dainv-bench scaling`` writes."""

from __future__ import annotations

from typing import Any, TypedDict

from dainv_bench.results import Result
from dainv_bench.scaling.fit import Growth


class MethodResult(TypedDict):
    """One method along an axis, a list entry a value. Where it was not run ``not_run`` says why; the rest is empty."""

    description: str
    not_run: str | None
    milliseconds: list[list[float]]  # at each value one a round
    median_milliseconds: list[float]
    peak_memory_bytes: list[int | None]  # None: not measured on this kind of device
    growth: Growth | None  # None: through fewer than two values


class AxisResult(TypedDict):
    """Everything along one axis."""

    meaning: str
    work: str  # what is timed
    fixed: dict[str, Any]  # what the rest stayed at
    values: list[int]
    methods: dict[str, MethodResult]
    orders: list[list[str]]  # "METHOD VALUE": who had its turn when, one list a round


class ScalingResult(Result):
    """What ``dainv-bench scaling`` writes; benchmarks/README.md explains every field."""

    axes: dict[str, AxisResult]
