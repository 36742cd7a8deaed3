"""What an epoch uses: time, by phase, and a GPU's memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class PhaseClock:
    """Seconds spent in each phase of an epoch, by the host's clock.

    On a GPU the host only queues the work of a step. To know how long a part of it took, the host would have to wait
    for the device in every step, so the parts are not timed there.

    Args:
        device: that computes.

    Attributes:
        seconds: spent in each phase so far.
    """

    def __init__(self, device: torch.device) -> None:
        self.seconds: dict[str, float] = {}
        self._times_steps = device.type == "cpu"

    def restart(self, seconds: dict[str, float] | None = None) -> None:
        """Begin an epoch, or the rest of one of which this much was spent before."""
        self.seconds = dict(seconds or {})

    @contextmanager
    def step_phase(self, name: str) -> Iterator[None]:
        """Around a part of a step; where the device works on its own time, this does nothing."""
        if not self._times_steps:
            yield
            return
        with self.phase(name):
            yield

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Around what ends with the results on the host."""
        begun = time.perf_counter()
        with torch.profiler.record_function(f"phase {name}"):
            yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begun

    def record(self) -> dict[str, float | None]:
        """For the record of an epoch; None is what was not timed."""
        return {name: self.seconds.get(name) for name in ("data", "update", "evaluation")}


def reset_peak_memory(device: torch.device) -> None:
    """Begin to look for the highest use anew."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> dict[str, int] | None:
    """Highest use since then, in bytes: ``allocated`` by tensors and ``reserved`` by torch; None on a CPU."""
    if device.type != "cuda":
        return None
    return {
        "allocated": torch.cuda.max_memory_allocated(device),
        "reserved": torch.cuda.max_memory_reserved(device),
    }
