"""Results as JSON files: what is in all of them, what they are called, how they are written."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypedDict

import torch

from dainv.environment import environment
from dainv.runs import write_atomically

SCHEMA = 1
FOLDER = Path("benchmarks/results")


class Head(TypedDict):
    """What every result has; benchmarks/README.md explains every field, these and those of the suites."""

    schema: int
    suite: str
    date: str
    environment: dict[str, Any]


class Result(Head):
    """What every result of times has."""

    interrupted: bool
    load_average: dict[str, list[float] | None]  # before, after
    settings: dict[str, Any]


def head_of(suite: str) -> Head:
    """The head of a result of a suite."""
    return Head(
        schema=SCHEMA,
        suite=suite,
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        environment=environment(),
    )


def begin(suite: str, settings: Mapping[str, Any]) -> Result:
    """The head of a result of times, taken before anything is measured.

    Args:
        suite: its name.
        settings: everything that has an influence on what is measured, defaults included; tuples become lists.
    """
    return Result(
        **head_of(suite),
        interrupted=False,
        load_average={"before": load_average(), "after": None},
        settings={name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()},
    )


def end(head: Result, interrupted: bool) -> Result:
    """The same head when the measurement is over.

    Args:
        head: as it began.
        interrupted: whether Ctrl-C ended it before all was measured.
    """
    load = {**head["load_average"], "after": load_average()}
    return {**head, "interrupted": interrupted, "load_average": load}


def kind_of(result: Mapping[str, Any]) -> str:
    """Its suite; epochs are another kind than steps, and so is a process that keeps the memory it frees."""
    suite: str = result["suite"]
    if suite != "overhead":
        return suite
    settings = result["settings"]
    return suite + "-epoch" * bool(settings.get("epoch")) + "-kept" * (settings.get("allocator") == "kept")


def load_average() -> list[float] | None:
    """Processes that wanted to run, over the last 1, 5 and 15 minutes; None where the system does not say."""
    try:
        return [round(load, 2) for load in os.getloadavg()]
    except (AttributeError, OSError):
        return None


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def default_path(suite: str, environment: Mapping[str, Any], device: torch.device) -> Path:
    """``benchmarks/results/SUITE--MACHINE--DEVICE.json``, from what the hardware is, not from what it is called."""
    machine = _slug(f"{environment['cpu']} {environment['cpu_count']} cpus")
    place = _slug(torch.cuda.get_device_name(device)) if device.type == "cuda" else device.type
    return FOLDER / f"{suite}--{machine}--{place}.json"


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_result(path: Path, result: Mapping[str, Any]) -> None:
    """Write a result as a whole or not at all.

    What is no finite number, such as the error of a method that gives NaN, is null in the file: JSON has no other word.

    Raises:
        UserError: the file cannot be written.
    """
    content = (json.dumps(_finite(result), indent=1, allow_nan=False) + "\n").encode()
    write_atomically(path, lambda file: file.write(content))
