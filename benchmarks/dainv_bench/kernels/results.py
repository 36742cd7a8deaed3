"""What ``dainv-bench kernels`` writes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

from dainv_bench.kernels.accuracy import Errors
from dainv_bench.results import Result
from dainv_bench.statistics import Interval


class PassResult(TypedDict):
    """One direction of one method."""

    model_bytes: int  # what memory has to move at least
    calls: int  # in a sample
    how: str  # graph, launched or cpu
    milliseconds: list[float]  # of one call, one a round
    median_milliseconds: float
    gigabytes_per_second: float
    percent_of_copy: Interval  # paired with the copy of the same round


class MethodResult(TypedDict):
    """One method. Where it was not timed ``not_run`` or ``wrong`` says why and ``passes`` is empty."""

    description: str
    form: str
    ours: bool
    not_run: str | None
    wrong: str | None
    errors: Errors | None
    passes: dict[str, PassResult]


class WorkloadResult(TypedDict):
    """Everything about the same features."""

    dtype: str
    layers: list[dict[str, Any]]
    feature_bytes: int
    input_sets: int
    beyond_cache: bool  # False: so small that it was timed in the cache
    copy_bytes: int  # read and written by one copy
    copy_milliseconds: list[float]  # one a round
    copy_gigabytes_per_second: float
    methods: dict[str, MethodResult]
    orders: list[list[str]]


class KernelsResult(Result):
    """What ``dainv-bench kernels`` writes; benchmarks/README.md explains every field."""

    workloads: dict[str, WorkloadResult]  # "NAME DTYPE"
    left_out: list[str]  # workloads for which there was no time


def wrong_methods(result: Mapping[str, Any], only_ours: bool = False) -> list[str]:
    """One line for each method, or each of ours, that was not timed because it is wrong."""
    return [
        f"{name} on {key}: {method['wrong']}"
        for key, workload in result["workloads"].items()
        for name, method in workload["methods"].items()
        if method["wrong"] is not None and (method["ours"] or not only_ours)
    ]
