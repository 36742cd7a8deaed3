"""The first run of every arm: its scores, which have to agree, and its peak memory."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch

from dainv_bench.scores.agreement import Agreement, bounds_of, compare
from dainv_bench.scores.arms import ARMS, PUBLISHED, STREAMING, Arm, Problem, Sigma
from dainv_bench.scores.memory import peak_above
from dainv_bench.scores.process import Ended, Process
from dainv_bench.timing import meter_for


class First(NamedTuple):
    """What a first run gives; ``not_run`` says why there was none."""

    sigma: Sigma | None = None
    peak_bytes: int | None = None
    not_run: str | None = None


def first_run(arm: Arm, make: Callable[[], Problem], problem: Problem, memory_limit: float) -> First:
    """Scores and peak memory: on a CPU in a process of its own, since the peak of this one is the hungriest arm's.

    Args:
        arm: what to run.
        make: makes the same problem there; can be pickled.
        problem: what to run it on here.
        memory_limit: GiB; an arm that is known to hold more is not run.
    """
    if (held := arm.nbytes(problem)) > memory_limit * 2**30:
        return First(not_run=f"activations and matrix take {held / 2**30:.1f} GiB, --memory-limit is {memory_limit:g}")
    try:
        return run_apart(arm, make) if problem.images.device.type == "cpu" else run_here(arm, problem)
    except (Ended, MemoryError, torch.OutOfMemoryError) as error:
        killed = not isinstance(error, Ended) or error.code == -signal.SIGKILL  # as the system does for want of memory
        return First(not_run="needs more memory than there is" if killed else str(error))


def run_here(arm: Arm, problem: Problem) -> First:
    """In this process, whose memory is measured on a GPU."""
    found: list[Sigma | None] = []
    sample = meter_for(problem.images.device)(lambda: found.append(arm.run(problem)))
    return First(found[0], sample.peak_bytes)


def run_apart(arm: Arm, make: Callable[[], Problem]) -> First:
    """In a process of its own."""
    with Process(_runner, make, torch.get_num_threads()) as process:
        return First(*process.ask(arm.name))


def _runner(make: Callable[[], Problem], threads: int) -> Callable[[str], tuple[Sigma | None, int | None]]:
    torch.set_num_threads(threads)
    problem = make()
    return lambda name: peak_above(lambda: ARMS[name].run(problem))


def agreement_of(firsts: Mapping[str, First], kappa: Mapping[str, float]) -> Agreement | None:
    """Of streaming with the published way; None where not both were run.

    Raises:
        UserError: they disagree.
    """
    streaming, published = (firsts.get(name, First()).sigma for name in (STREAMING, PUBLISHED))
    if streaming is None or published is None:
        return None
    return compare(STREAMING, streaming, published, bounds_of([ARMS[STREAMING], ARMS[PUBLISHED]], kappa))
