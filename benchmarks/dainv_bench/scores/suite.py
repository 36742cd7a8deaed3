"""Measure Eq. 2: its scores agree, its peak memory, its time against the forward passes, over N."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from functools import partial
from statistics import median
from typing import Any, NamedTuple, TypedDict

import numpy as np
import torch

from dainv.devices import resolve_device
from dainv.environment import environment
from dainv.errors import UserError
from dainv_bench.results import SCHEMA, load_average
from dainv_bench.scores.agreement import Agreement, bounds_of, compare, kappas, truth
from dainv_bench.scores.arms import (
    ARMS,
    AUGMENTATION,
    FORWARD,
    PUBLISHED,
    SCORING,
    STREAMING,
    TRANSFORM,
    Arm,
    Problem,
    Sigma,
    make_problem,
)
from dainv_bench.scores.memory import peak_above
from dainv_bench.scores.process import Ended, Process
from dainv_bench.statistics import MINIMUM_ROUNDS, Interval, judge, median_interval
from dainv_bench.timing import Rounds, interleave, meter_for

_CHECKED = 64  # images on which all arms are compared with float64


@dataclass(frozen=True)
class ScoresSettings:
    """Settings of ``dainv-bench scores``; the command line documents each where it defines the option."""

    sizes: tuple[int, ...] = (128, 256, 512)
    repeats: int = 5
    batch_size: int = 128
    width: float = 1.0
    batch_norm: bool = False
    rounds: int = 5
    memory_limit: float = 4.0
    limit: float = 1.25
    device: str = "auto"
    seed: int = 0
    arms: tuple[str, ...] = tuple(ARMS)

    def __post_init__(self) -> None:
        """Reject what cannot be measured.

        Raises:
            UserError: a setting outside its range.
        """
        if not self.sizes or min(self.sizes) < 2:
            raise UserError(f"--sizes: expected numbers of at least 2 images, got {self.sizes}")
        for name, least in (("repeats", 1), ("batch_size", 1), ("rounds", MINIMUM_ROUNDS)):
            if getattr(self, name) < least:
                option = name.replace("_", "-")
                raise UserError(f"--{option}: expected at least {least}, got {getattr(self, name)}")
        if not (math.isfinite(self.width) and self.width > 0):
            raise UserError(f"--width: expected a positive factor, got {self.width}")
        if not self.memory_limit > 0:
            raise UserError(f"--memory-limit: expected a positive number of GiB, got {self.memory_limit}")
        if not (math.isfinite(self.limit) and self.limit > 0):
            raise UserError(f"--limit: expected a positive ratio, got {self.limit}")
        if not 0 <= self.seed < 2**63:
            raise UserError(f"--seed: expected 0 to 2^63 - 1, got {self.seed}")
        for name in self.arms:
            if name not in ARMS:
                raise UserError(f"--arms: there is no arm {name!r}; there are {', '.join(ARMS)}")


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


class ScoresResult(TypedDict):
    """What ``dainv-bench scores`` writes; benchmarks/README.md explains every field."""

    schema: int
    suite: str
    date: str
    interrupted: bool
    environment: dict[str, Any]
    load_average: dict[str, list[float] | None]  # before, after
    settings: dict[str, Any]
    agreement: dict[str, Agreement]  # of each scoring arm with float64
    sizes: dict[str, SizeResult]  # by N
    verdict: Verdict | None


OnProgress = Callable[[str, int, int], None]


class _First(NamedTuple):
    """What the first run of an arm gives."""

    sigma: Sigma | None
    peak_bytes: int | None


def measure(settings: ScoresSettings, on_progress: OnProgress = lambda _what, _done, _all: None) -> ScoresResult:
    """Check that the arms agree, take their peak memory, then time them side by side, for every N.

    Args:
        settings: what to measure. The forward passes are run whether they are named or not.
        on_progress: told after every run what is going on, how many images are done, and of how many; an image counts
            once for each arm and run.

    Returns:
        The result; after a Ctrl-C that of the sizes and rounds finished until then.

    Raises:
        UserError: no such device, or arms that disagree.
        KeyboardInterrupt: before there were rounds enough to say anything.
    """
    device = resolve_device(settings.device)
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"--device {settings.device}: scores can be timed on cpu and cuda")
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
    done, total = 0, sum(settings.sizes) * len(chosen) * (1 + settings.rounds)

    def advance(what: str, n_images: int) -> None:
        nonlocal done
        done += n_images
        on_progress(what, done, total)

    made_with, load_before = environment(), load_average()
    checked = make(_CHECKED)
    kappa = kappas(checked)
    agreement = _agreement_with_truth(chosen, checked, kappa)
    sizes: dict[str, SizeResult] = {}
    interrupted = False
    for n_images in sorted(set(settings.sizes)):
        try:
            one, interrupted = _measure_size(n_images, make, chosen, kappa, settings, device, advance)
        except KeyboardInterrupt:
            one, interrupted = None, True
        if one is not None:
            sizes[str(n_images)] = one
        if interrupted:
            break
    if not sizes:
        raise KeyboardInterrupt
    return ScoresResult(
        schema=SCHEMA,
        suite="scores",
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        interrupted=interrupted,
        environment=made_with,
        load_average={"before": load_before, "after": load_average()},
        settings=_resolved(settings, device),
        agreement=agreement,
        sizes=sizes,
        verdict=_verdict(sizes, settings.limit),
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
    n_images: int,
    make: Callable[[int], Problem],
    chosen: list[Arm],
    kappa: Mapping[str, float],
    settings: ScoresSettings,
    device: torch.device,
    advance: Callable[[str, int], None],
) -> tuple[SizeResult | None, bool]:
    """Result, None where Ctrl-C came too early for one; and whether it came."""
    problem = make(n_images)
    not_run: dict[str, str] = {}
    firsts: dict[str, _First] = {}
    for arm in chosen:
        if (held := arm.nbytes(problem)) > settings.memory_limit * 2**30:
            not_run[arm.name] = (
                f"activations and matrix take {held / 2**30:.1f} GiB, --memory-limit is {settings.memory_limit:g}"
            )
        else:
            try:
                firsts[arm.name] = _first_run(arm, partial(make, n_images), problem, device)
            except (Ended, torch.OutOfMemoryError):
                not_run[arm.name] = "needs more memory than there is"
        advance(
            f"N = {n_images}: scores and memory", n_images if arm.name in firsts else n_images * (1 + settings.rounds)
        )
    agreement = _agreement_of_arms(firsts, kappa)
    running = [arm for arm in chosen if arm.name in firsts]
    rounds = interleave(
        {arm.name: partial(_run, arm, problem) for arm in running},
        rounds=settings.rounds,
        warmup=0,  # the check against float64 was the first run in this process
        measure=meter_for(device),
        seed=settings.seed,
        on_step=lambda what: advance(f"N = {n_images}: {what}", n_images),
    )
    if len(rounds.finished) < MINIMUM_ROUNDS:
        return None, True
    return _size_result(chosen, rounds, firsts, not_run, agreement), rounds.interrupted


def _run(arm: Arm, problem: Problem, _number: int) -> None:
    arm.run(problem)


def _first_run(arm: Arm, make: Callable[[], Problem], problem: Problem, device: torch.device) -> _First:
    """Scores and peak memory: on a CPU in a process of its own, since the peak of this one is the hungriest arm's."""
    if device.type == "cpu":
        with Process(_runner, make, torch.get_num_threads()) as process:
            return _First(*process.ask(arm.name))
    found: list[Sigma | None] = []
    sample = meter_for(device)(lambda: found.append(arm.run(problem)))
    return _First(found[0], sample.peak_bytes)


def _runner(make: Callable[[], Problem], threads: int) -> Callable[[str], tuple[Sigma | None, int | None]]:
    torch.set_num_threads(threads)
    problem = make()
    return lambda name: peak_above(lambda: ARMS[name].run(problem))


def _agreement_of_arms(firsts: Mapping[str, _First], kappa: Mapping[str, float]) -> Agreement | None:
    sigmas = {name: firsts[name].sigma for name in SCORING if name in firsts}
    streaming, published = sigmas.get(STREAMING), sigmas.get(PUBLISHED)
    if streaming is None or published is None:
        return None
    return compare(STREAMING, streaming, published, bounds_of([ARMS[STREAMING], ARMS[PUBLISHED]], kappa))


def _size_result(
    chosen: list[Arm],
    rounds: Rounds,
    firsts: Mapping[str, _First],
    not_run: Mapping[str, str],
    agreement: Agreement | None,
) -> SizeResult:
    times = {
        arm.name: [one[arm.name].milliseconds for one in rounds.finished] if arm.name in firsts else []
        for arm in chosen
    }
    without_augmentation = None
    if times.get(STREAMING) and times.get(AUGMENTATION):
        scoring = np.subtract(times[STREAMING], times[AUGMENTATION])
        without_augmentation = median_interval(scoring / np.asarray(times[FORWARD]))
    return SizeResult(
        agreement=agreement,
        arms={
            arm.name: ArmResult(
                description=arm.description,
                not_run=not_run.get(arm.name),
                milliseconds=times[arm.name],
                median_milliseconds=median(times[arm.name]) if times[arm.name] else None,
                ratio_to_forward=_ratio(times[arm.name], times[FORWARD]) if arm.name != FORWARD else None,
                peak_memory_bytes=firsts[arm.name].peak_bytes if arm.name in firsts else None,
            )
            for arm in chosen
        },
        streaming_without_augmentation=without_augmentation,
        orders=[list(one) for one in rounds.finished],
    )


def _ratio(times: list[float], forward: list[float]) -> Interval | None:
    return median_interval(np.asarray(times) / np.asarray(forward)) if times and forward else None


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


def _resolved(settings: ScoresSettings, device: torch.device) -> dict[str, Any]:
    """Everything that has an influence on a time or on memory, defaults included."""
    return {
        **asdict(settings),
        "sizes": sorted(set(settings.sizes)),
        "arms": list(settings.arms),
        "device": str(device),
        "transform": TRANSFORM,
        "checked_images": _CHECKED,
        "dtype": "float32",
        "memory_format": "channels_last",
        "tf32_convolutions": device.type == "cuda" and torch.backends.cudnn.allow_tf32,
    }
