"""``dainv-bench scores``: Eq. 2's scores agree, their peak memory, their time against the forward passes, over N."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import torch

from dainv_bench.progress import Steps, Tell, silent
from dainv_bench.results import begin, end
from dainv_bench.scores.agreement import Agreement, bounds_of, compare, kappas, truth
from dainv_bench.scores.arms import (
    ARMS,
    AUGMENTATION,
    FORWARD,
    SCORING,
    STREAMING,
    TRANSFORM,
    Arm,
    Problem,
    make_problem,
)
from dainv_bench.scores.first import First, agreement_of, first_run
from dainv_bench.scores.results import ArmResult, ScoresResult, SizeResult, Verdict
from dainv_bench.scores.settings import ScoresSettings
from dainv_bench.statistics import Interval, judge, median_interval
from dainv_bench.timing import interleave, measure_each, meter_for
from dainv_bench.workload import arithmetic_on

_CHECKED = 64  # images on which all arms are compared with float64


def measure(settings: ScoresSettings, tell: Tell = silent) -> Iterator[ScoresResult]:
    """Check that the arms agree, take their peak memory, then time them side by side, for every N.

    Args:
        settings: what to measure. The forward passes are run whether they are named or not.
        tell: told after every run what is going on, how many images are done, and of how many; an image counts once
            for each arm and run.

    Yields:
        After each N the result as far as it is; after a Ctrl-C that of the rounds finished until then.

    Raises:
        UserError: no such device, or arms that disagree.
        KeyboardInterrupt: before there were rounds enough to say anything.
    """
    device = settings.timed_device()
    chosen = [arm for arm in ARMS.values() if arm.name == FORWARD or arm.name in settings.arms]
    make = partial(
        make_problem,
        width=settings.width,
        batch_norm=settings.batch_norm,
        repeats=settings.repeats,
        batch_size=settings.batch_size,
        seed=settings.seed,
        device=device,
    )
    step = Steps(tell, sum(settings.sizes) * len(chosen) * (1 + settings.rounds))
    head = begin("scores", _resolved(settings, device))
    tell("checking that all arms agree", 0, 1)
    checked = make(_CHECKED)
    kappa = kappas(checked)
    agreement = _agreement_with_truth(chosen, checked, kappa)

    def measure_size(n_images: int) -> tuple[SizeResult, bool]:
        return _measure_size(partial(make, n_images), chosen, kappa, settings, step)

    for found, interrupted in measure_each(sorted(set(settings.sizes)), measure_size):
        sizes = {str(n_images): one for n_images, one in found.items()}
        verdict = _verdict(sizes, settings.limit)
        yield ScoresResult(**end(head, interrupted), agreement=agreement, sizes=sizes, verdict=verdict)


def _resolved(settings: ScoresSettings, device: torch.device) -> dict[str, Any]:
    return settings.resolved(
        device,
        sizes=sorted(set(settings.sizes)),
        transform=TRANSFORM,
        checked_images=_CHECKED,
        **arithmetic_on(device),
    )


def _agreement_with_truth(chosen: list[Arm], problem: Problem, kappa: Mapping[str, float]) -> dict[str, Agreement]:
    exact = truth(problem)
    found = {}
    for arm in chosen:
        sigma = arm.run(problem) if arm.name in SCORING else None
        if sigma is not None:
            found[arm.name] = compare(arm.name, sigma, exact, bounds_of([arm], kappa))
    return found


def _measure_size(
    make: Callable[[], Problem],
    chosen: list[Arm],
    kappa: Mapping[str, float],
    settings: ScoresSettings,
    step: Steps,
) -> tuple[SizeResult, bool]:
    """Result, and whether Ctrl-C came."""
    problem = make()
    n_images = len(problem.images)
    firsts: dict[str, First] = {}
    for arm in chosen:
        firsts[arm.name] = first = first_run(arm, make, problem, settings.memory_limit)
        runs = 1 if first.not_run is None else 1 + settings.rounds
        step(f"N = {n_images}: scores and memory", runs * n_images)
    agreement = agreement_of(firsts, kappa)
    rounds = interleave(
        {arm.name: partial(_run, arm, problem) for arm in chosen if firsts[arm.name].not_run is None},
        rounds=settings.rounds,
        warmup=0,  # the check against float64 was the first run in this process
        measure=meter_for(problem.images.device),
        seed=settings.seed,
        on_step=lambda what: step(f"N = {n_images}: {what}", n_images),
    )
    times = {name: rounds.milliseconds(name) if first.not_run is None else [] for name, first in firsts.items()}
    result = SizeResult(
        agreement=agreement,
        arms={arm.name: _arm_result(arm, firsts[arm.name], times) for arm in chosen},
        streaming_without_augmentation=_without_augmentation(times),
        orders=rounds.orders,
    )
    return result, rounds.interrupted


def _run(arm: Arm, problem: Problem, _number: int) -> None:
    arm.run(problem)


def _arm_result(arm: Arm, first: First, times: Mapping[str, list[float]]) -> ArmResult:
    own, forward = times[arm.name], times[FORWARD]
    return ArmResult(
        description=arm.description,
        not_run=first.not_run,
        milliseconds=own,
        median_milliseconds=median(own) if own else None,
        ratio_to_forward=_ratio(own, forward) if own and forward and arm.name != FORWARD else None,
        peak_memory_bytes=first.peak_bytes,
    )


def _without_augmentation(times: Mapping[str, list[float]]) -> Interval | None:
    streaming, augmentation, forward = (times.get(name) for name in (STREAMING, AUGMENTATION, FORWARD))
    if not streaming or not augmentation or not forward:
        return None
    return _ratio([whole - part for whole, part in zip(streaming, augmentation, strict=True)], forward)


def _ratio(times: list[float], forward: list[float]) -> Interval:
    return median_interval(np.asarray(times) / np.asarray(forward))


def _verdict(sizes: Mapping[str, SizeResult], limit: float) -> Verdict | None:
    """None where streaming was not run."""
    timed = {
        int(n_images): ratio
        for n_images, one in sizes.items()
        if STREAMING in one["arms"] and (ratio := one["arms"][STREAMING]["ratio_to_forward"])
    }
    if not timed:
        return None
    largest = max(timed)
    return Verdict(n_images=largest, ratio_to_forward=timed[largest], limit=limit, verdict=judge(timed[largest], limit))
