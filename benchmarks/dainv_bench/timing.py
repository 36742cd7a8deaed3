"""How time is taken: one step of every arm a round, in a new order each round, each step waited for."""

from __future__ import annotations

import gc
import math
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple, TypeVar

import torch

from dainv_bench.statistics import MINIMUM_ROUNDS

_K = TypeVar("_K")
_R = TypeVar("_R")


class Sample(NamedTuple):
    """One step: its time, and how far the device's memory rose above what was held before it (None: not measured)."""

    milliseconds: float
    peak_bytes: int | None


Meter = Callable[[Callable[[], None]], Sample]
Round = dict[str, Sample]  # in the order in which the arms had their turn


class Rounds(NamedTuple):
    """Every sample of a measurement; ``interrupted`` when Ctrl-C ended it before the last round."""

    finished: list[Round]
    interrupted: bool

    @property
    def orders(self) -> list[list[str]]:
        """Who had its turn when, one list a round."""
        return [list(one) for one in self.finished]

    def milliseconds(self, name: str) -> list[float]:
        """Times of an arm, one a round."""
        return [one[name].milliseconds for one in self.finished]

    def peak_bytes(self, name: str) -> int | None:
        """The largest peak of an arm; None: not measured."""
        return max((peak for one in self.finished if (peak := one[name].peak_bytes) is not None), default=None)


def _measure_cpu(work: Callable[[], None]) -> Sample:
    begun = time.perf_counter()
    work()
    # torch does not count a CPU's allocations, and the process's peak is that of whichever arm needs most.
    return Sample(1e3 * (time.perf_counter() - begun), None)


def _measure_cuda(device: torch.device, queued: bool) -> Meter:
    def measure(work: Callable[[], None]) -> Sample:
        with torch.cuda.device(device):
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            torch.cuda.synchronize()  # nothing of the arm before may still run
            if queued:
                work()  # not timed: keeps the device busy while the turn that is timed is queued behind it
            else:
                torch.cuda.reset_peak_memory_stats()
            held = torch.cuda.memory_allocated()
            begin.record()
            work()
            end.record()
            torch.cuda.synchronize()
            peak = None if queued else torch.cuda.max_memory_allocated() - held
            return Sample(begin.elapsed_time(end), peak)

    return measure


def meter_for(device: torch.device, *, queued: bool = False) -> Meter:
    """What measures one step on a CPU or a CUDA device.

    Args:
        device: where the work is done.
        queued: on a GPU, measure the work without its launch, and no memory: for what the device is never idle in,
            such as a graph.
    """
    return _measure_cuda(device, queued) if device.type == "cuda" else _measure_cpu


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """A collection would land on one arm of one round and be counted as its time."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def interleave(
    works: Mapping[str, Callable[[int], None]],
    *,
    rounds: int,
    warmup: int,
    measure: Meter,
    seed: int,
    on_step: Callable[[str], None] = lambda _what: None,
    seconds: float = math.inf,
) -> Rounds:
    """Let every arm do one step a round.

    Arms measured one after the other would each get the machine of another minute. Here a drift meets all of them
    alike, and since the order is drawn anew each round, no arm profits from its place or from the one before it.

    Args:
        works: arm -> does one step; is given the number of the step, from 0, warm-up included.
        rounds: how many rounds are measured.
        warmup: how many steps each arm does before.
        measure: measures one step.
        seed: of the orders.
        on_step: told after each step what is going on.
        seconds: no round begins after so many, once there are enough rounds to say anything.

    Returns:
        The finished rounds: after a Ctrl-C those before it.

    Raises:
        KeyboardInterrupt: before there were rounds enough to say anything.
    """
    orders = random.Random(seed)
    finished: list[Round] = []
    begun = time.monotonic()
    with _no_garbage_collection():
        for step in range(warmup):
            for work in works.values():
                work(step)
                on_step("warming up")
        try:
            for number in range(rounds):
                if number >= MINIMUM_ROUNDS and time.monotonic() - begun > seconds:
                    break
                this_round: Round = {}
                for name in orders.sample(list(works), len(works)):
                    this_round[name] = measure(partial(works[name], warmup + number))
                    on_step(f"round {number + 1} of {rounds}")
                finished.append(this_round)
        except KeyboardInterrupt:
            if len(finished) < MINIMUM_ROUNDS:
                raise
            return Rounds(finished, interrupted=True)
    return Rounds(finished, interrupted=False)


def measure_each(cases: Iterable[_K], measure: Callable[[_K], tuple[_R, bool]]) -> Iterator[tuple[dict[_K, _R], bool]]:
    """Measure one case after the other, until Ctrl-C.

    Args:
        cases: what there is to measure.
        measure: measures one; gives its result, and whether Ctrl-C ended it early. Raises KeyboardInterrupt where it
            came too early for a result.

    Yields:
        After each case the results there are, and whether Ctrl-C has ended it.

    Raises:
        KeyboardInterrupt: before there was any result.
    """
    found: dict[_K, _R] = {}
    interrupted = False
    for case in cases:
        try:
            found[case], interrupted = measure(case)
        except KeyboardInterrupt:
            if not found:
                raise
            interrupted = True
        yield dict(found), interrupted
        if interrupted:
            return
