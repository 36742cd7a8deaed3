"""Results as JSON files: what is in them, what they are called, how they are written."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

import torch

from dainv.runs import write_atomically
from dainv_bench.overhead.equality import Agreement
from dainv_bench.statistics import Interval

SCHEMA = 1
FOLDER = Path("benchmarks/results")


class ArmResult(TypedDict):
    """One arm. Where it could not be run ``not_run`` says why and the rest is empty."""

    description: str
    not_run: str | None
    milliseconds: list[float]  # one a round
    median_milliseconds: float | None
    overhead_percent: Interval | None  # None for the baseline
    peak_memory_bytes: int | None  # None: not measured on this kind of device
    agreement: Agreement | None  # None for the baseline


class Verdict(TypedDict):
    """The best arm of ours against the limit."""

    arm: str
    overhead_percent: Interval
    limit_percent: float
    verdict: str  # within, above or undecided


class OverheadResult(TypedDict):
    """What ``dainv-bench overhead`` writes; benchmarks/README.md explains every field."""

    schema: int
    suite: str
    date: str
    interrupted: bool
    environment: dict[str, Any]
    load_average: dict[str, list[float] | None]  # before, after
    settings: dict[str, Any]
    arms: dict[str, ArmResult]
    orders: list[list[str]]  # who had its turn when, one list a round
    verdict: Verdict | None


def load_average() -> list[float] | None:
    """Processes that wanted to run, over the last 1, 5 and 15 minutes; None where the system does not say."""
    try:
        return [round(load, 2) for load in os.getloadavg()]
    except (AttributeError, OSError):
        return None


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def default_path(suite: str, environment: dict[str, Any], device: torch.device) -> Path:
    """``benchmarks/results/SUITE--MACHINE--DEVICE.json``, from what the hardware is, not from what it is called."""
    machine = _slug(f"{environment['cpu']} {environment['cpu_count']} cpus")
    place = _slug(torch.cuda.get_device_name(device)) if device.type == "cuda" else device.type
    return FOLDER / f"{suite}--{machine}--{place}.json"


def write_result(path: Path, result: Mapping[str, Any]) -> None:
    """Write a result as a whole or not at all.

    Raises:
        UserError: the file cannot be written.
    """
    content = (json.dumps(result, indent=1, allow_nan=False) + "\n").encode()
    write_atomically(path, lambda file: file.write(content))
