"""What ``dainv-bench captured`` writes."""

from __future__ import annotations

from typing import TypedDict

import torch

from dainv_bench.overhead.arms import ARMS
from dainv_bench.results import Result
from dainv_bench.statistics import Interval


class FormResult(TypedDict):
    """One arm in one form. Where it could not be run ``not_run`` says why and the rest is empty."""

    arm: str
    form: str
    not_run: str | None
    update_error: float | None  # against the eager form; None for that itself
    milliseconds: list[float]  # of one step, one a round
    median_milliseconds: float | None
    overhead_percent: Interval | None  # over the best baseline; None for the baseline's own forms


class CapturedResult(Result):
    """What ``dainv-bench captured`` writes; benchmarks/README.md explains what is not named here."""

    best_baseline: str
    steps: dict[str, FormResult]  # "ARM, FORM"
    orders: list[list[str]]  # who had its turn when, one list a round


def broken_forms(result: CapturedResult) -> list[str]:
    """Forms of arms that could not be compiled or recorded though nothing is missing here."""
    device = torch.device(result["settings"]["device"])
    steps = result["steps"].items()
    return [key for key, one in steps if one["not_run"] is not None and ARMS[one["arm"]].why_not(device) is None]
