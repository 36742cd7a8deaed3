"""What ``dainv-bench scores`` writes."""

from __future__ import annotations

from typing import TypedDict

from dainv_bench.results import Result
from dainv_bench.scores.agreement import Agreement
from dainv_bench.statistics import Interval


class ArmResult(TypedDict):
    """One arm at one N. Where it was not run ``not_run`` says why and the rest is empty."""

    description: str
    not_run: str | None
    milliseconds: list[float]  # one a round
    median_milliseconds: float | None
    ratio_to_forward: Interval | None  # None for forward itself
    peak_memory_bytes: int | None  # None: not measured


class SizeResult(TypedDict):
    """Everything about one N."""

    agreement: Agreement | None  # of streaming with published; None where not both were run
    arms: dict[str, ArmResult]
    streaming_without_augmentation: Interval | None  # its ratio to forward, the augmentation of the round subtracted
    orders: list[list[str]]  # who had its turn when, one list a round


class Verdict(TypedDict):
    """Streaming at the largest N, against the limit."""

    n_images: int
    ratio_to_forward: Interval
    limit: float
    verdict: str  # within, above or undecided


class ScoresResult(Result):
    """What ``dainv-bench scores`` writes; benchmarks/README.md explains every field."""

    agreement: dict[str, Agreement]  # of each scoring arm with float64
    sizes: dict[str, SizeResult]  # by N
    verdict: Verdict | None
