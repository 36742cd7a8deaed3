"""What ``dainv-bench overhead`` writes."""

from __future__ import annotations

from typing import TypedDict

from dainv_bench.overhead.equality import Agreement
from dainv_bench.results import Result
from dainv_bench.statistics import Interval


class ArmResult(TypedDict):
    """One arm. Where it could not be run ``not_run`` says why and the rest is empty."""

    description: str
    not_run: str | None
    milliseconds: list[float]  # one a round
    median_milliseconds: float | None
    overhead_percent: Interval | None  # None for the baseline
    peak_memory_bytes: int | None  # None: not measured on this kind of device
    agreement: Agreement | None  # None for the baseline and the control


class Verdict(TypedDict):
    """The cheapest arm of ours against the limit."""

    arm: str
    overhead_percent: Interval
    limit_percent: float
    verdict: str  # within, above or undecided


class OverheadResult(Result):
    """What ``dainv-bench overhead`` writes; benchmarks/README.md explains every field."""

    arms: dict[str, ArmResult]
    orders: list[list[str]]  # who had its turn when, one list a round
    verdict: Verdict | None
