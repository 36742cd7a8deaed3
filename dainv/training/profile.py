"""Where the time of an update goes, operation by operation (`dainv train --profile`)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import torch
from rich.table import Table
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity

from dainv.environment import environment
from dainv.errors import UserError
from dainv.training.trainer import Trainer

_WARMUP, _UPDATES = 2, 5
CONVOLUTION = "convolution"
# The first of these that is in the name of an operation, or of one that it is part of, says what it is for.
_GROUPS = (
    ("phase data", "images and augmentation"),
    ("conv", CONVOLUTION),
    ("Optimizer", "optimizer"),
    ("nvariance", "objective and its ReLU"),
    ("dainv", "objective and its ReLU"),
)
_REST = "everything else"


def profile(trainer: Trainer) -> dict[str, Any]:
    """Do some updates and sort their operations by what they are for.

    Args:
        trainer: on a CPU; its step runs eagerly.

    Returns:
        ``milliseconds`` of an update by group, with ``"between operations"`` for what is left of the wall clock
        (Python, logging); ``update_milliseconds``, the same of an update without a profiler; and what it was made with.

    Raises:
        UserError: the device is no CPU.
    """
    if trainer.device.type != "cpu":
        raise UserError("--profile: expected --device cpu; `dainv-bench gpu-check` is about GPUs")
    for _ in range(_WARMUP):
        trainer.update()
    plain = _wall(trainer)
    with torch.profiler.profile(activities=[ProfilerActivity.CPU]) as profiler:
        profiled = _wall(trainer)
    spent: dict[str, float] = {}
    for event in profiler.events() or []:
        group = _group(event)
        spent[group] = spent.get(group, 0.0) + event.self_cpu_time_total / 1e3 / _UPDATES
    spent["between operations"] = max(0.0, profiled - sum(spent.values()))
    return {
        "schema": 1,
        "suite": "profile",
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "environment": environment(),
        "settings": trainer.config["settings"],
        "backend": trainer.backend,
        "updates": _UPDATES,
        "update_milliseconds": plain,
        "profiled_milliseconds": profiled,
        "milliseconds": dict(sorted(spent.items(), key=lambda item: -item[1])),
    }


def table(found: dict[str, Any]) -> Table:
    """A profile on a screen."""
    shown = Table("an update", box=None, padding=(0, 2, 0, 0))
    shown.add_column("ms", justify="right")
    shown.add_column("%", justify="right")
    for group, spent in found["milliseconds"].items():
        shown.add_row(group, f"{spent:.1f}", f"{100 * spent / found['profiled_milliseconds']:.1f}")
    shown.add_row("without the profiler", f"{found['update_milliseconds']:.1f}", "")
    return shown


def _wall(trainer: Trainer) -> float:
    """Milliseconds of an update."""
    begun = time.perf_counter()
    for _ in range(_UPDATES):
        trainer.update()
    return 1e3 * (time.perf_counter() - begun) / _UPDATES


def _group(event: FunctionEvent) -> str:
    names = list(_names(event))
    for part, group in _GROUPS:
        if any(part in name for name in names):
            return group
    return _REST


def _names(event: FunctionEvent | None) -> Iterator[str]:
    """Of an operation and of those that it is part of, from the inside out."""
    while event is not None:
        yield event.name
        event = event.cpu_parent
