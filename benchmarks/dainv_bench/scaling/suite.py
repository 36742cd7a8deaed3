"""Measure how cost grows: one axis at a time, all values and methods of it side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from functools import partial
from statistics import median
from typing import Any, NamedTuple, TypedDict

import torch

from dainv.devices import resolve_device
from dainv.environment import environment
from dainv.errors import UserError
from dainv_bench.results import SCHEMA, load_average
from dainv_bench.scaling.axes import AXES, OBJECTIVE_AXES, RANKS_AXIS, SCORES_AXIS, Point
from dainv_bench.scaling.fit import Growth, fit_growth
from dainv_bench.scaling.objectives import METHODS, check, forward_backward, make_features
from dainv_bench.scaling.ranks import DESCRIPTIONS, Ranks, part_of
from dainv_bench.scores.agreement import bounds_of, compare, kappas
from dainv_bench.scores.arms import ARMS, SCORING, make_problem
from dainv_bench.statistics import MINIMUM_ROUNDS
from dainv_bench.timing import Rounds, interleave, meter_for

_PLAUSIBLE = 2**24  # a value beyond it is a slip


@dataclass(frozen=True)
class ScalingSettings:
    """Settings of ``dainv-bench scaling``; the command line documents each where it defines the option."""

    axes: tuple[str, ...] = tuple(AXES)
    values: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # in place of an axis' own
    batch_size: int = 128
    views: int = 8
    features: int = 12288
    layers: int = 1
    width: float = 0.25
    score_batch_size: int = 128
    repeats: int = 5
    rounds: int = 7
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        """Reject what cannot be measured.

        Raises:
            UserError: a setting outside its range.
        """
        for option, names in (("axes", self.axes), ("values", self.values)):
            for name in names:
                if name not in AXES:
                    raise UserError(f"--{option}: there is no axis {name!r}; there are {', '.join(AXES)}")
        for name in self.values:
            if not all(1 <= value <= _PLAUSIBLE for value in self.values_of(name)):
                raise UserError(f"--values: expected {name} from 1 to {_PLAUSIBLE}, got {self.values[name]}")
        for axis in (axis for axis in OBJECTIVE_AXES if axis in self.axes):
            for value in self.values_of(axis):
                self.point(axis, value)
        for ranks in self.values_of(RANKS_AXIS) if RANKS_AXIS in self.axes else ():
            part_of(self.base, ranks)
        if SCORES_AXIS in self.axes and min(self.values_of(SCORES_AXIS)) < 2:
            raise UserError(f"--values: expected N of at least 2, got {self.values_of(SCORES_AXIS)}")
        for name, least in (("rounds", MINIMUM_ROUNDS), ("score_batch_size", 1), ("repeats", 1)):
            if getattr(self, name) < least:
                raise UserError(f"--{name.replace('_', '-')}: expected at least {least}, got {getattr(self, name)}")
        if not (math.isfinite(self.width) and self.width > 0):
            raise UserError(f"--width: expected a positive factor, got {self.width}")
        if not 0 <= self.seed < 2**63 - 2**24:
            raise UserError(f"--seed: expected 0 to 2^63 - 2^24 - 1, got {self.seed}")

    def values_of(self, axis: str) -> tuple[int, ...]:
        """What the axis is measured at, ascending."""
        return tuple(sorted(set(self.values.get(axis) or AXES[axis].values)))

    @property
    def base(self) -> Point:
        """The batch that B, M, D and L are varied from."""
        return Point(self.batch_size, self.views, self.features, self.layers)

    def point(self, axis: str, value: int) -> Point:
        """The batch at a value of B, M, D or L."""
        return replace(self.base, **{axis: value}).checked(f"--axes {axis}")


class MethodResult(TypedDict):
    """One method along an axis, a list entry a value. Where it was not run ``not_run`` says why; the rest is empty."""

    description: str
    not_run: str | None
    milliseconds: list[list[float]]  # at each value one a round
    median_milliseconds: list[float]
    peak_memory_bytes: list[int | None]  # None: not measured on this kind of device
    growth: Growth | None  # None: through fewer than two values


class AxisResult(TypedDict):
    """Everything along one axis."""

    meaning: str
    work: str  # what is timed
    fixed: dict[str, Any]  # what the rest stayed at
    values: list[int]
    methods: dict[str, MethodResult]
    orders: list[list[str]]  # "METHOD VALUE": who had its turn when, one list a round


class ScalingResult(TypedDict):
    """What ``dainv-bench scaling`` writes; benchmarks/README.md explains every field."""

    schema: int
    suite: str
    date: str
    interrupted: bool
    environment: dict[str, Any]
    load_average: dict[str, list[float] | None]  # before, after
    settings: dict[str, Any]
    axes: dict[str, AxisResult]


OnProgress = Callable[[str, int, int], None]


class _Plan(NamedTuple):
    """What there is to do along an axis."""

    work: str
    fixed: dict[str, Any]
    methods: dict[str, str]  # name -> description
    not_run: dict[str, str]
    works: dict[tuple[str, int], Callable[[int], object]]  # by method and value


def measure(settings: ScalingSettings, on_progress: OnProgress = lambda _what, _done, _all: None) -> ScalingResult:
    """Time every method at every value of every axis, and fit how the times grow.

    Args:
        settings: what to measure.
        on_progress: told after every step what is going on, how many steps are done, and of how many.

    Returns:
        The result; after a Ctrl-C that of the axes and rounds finished until then.

    Raises:
        UserError: no such device, methods that disagree, or a batch that ranks cannot share.
        KeyboardInterrupt: before there were rounds enough to say anything.
    """
    device = resolve_device(settings.device)
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"--device {settings.device}: scaling can be timed on cpu and cuda")
    made_with, load_before = environment(), load_average()
    chosen = [axis for axis in AXES if axis in settings.axes]
    found: dict[str, AxisResult] = {}
    interrupted = False
    for number, axis in enumerate(chosen):

        def tell(what: str, done: int, total: int, axis: str = axis, number: int = number) -> None:
            on_progress(f"{axis} ({number + 1} of {len(chosen)}): {what}", done, total)

        try:
            one, interrupted = _measure_axis(axis, settings, device, tell)
        except KeyboardInterrupt:
            one, interrupted = None, True
        if one is not None:
            found[axis] = one
        if interrupted:
            break
    if not found:
        raise KeyboardInterrupt
    return ScalingResult(
        schema=SCHEMA,
        suite="scaling",
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        interrupted=interrupted,
        environment=made_with,
        load_average={"before": load_before, "after": load_average()},
        settings=_resolved(settings, device),
        axes=found,
    )


def _measure_axis(
    axis: str, settings: ScalingSettings, device: torch.device, tell: OnProgress
) -> tuple[AxisResult | None, bool]:
    """Result, None where Ctrl-C came too early for one; and whether it came."""
    values = settings.values_of(axis)
    tell("checking that all agree", 0, 1)
    with _PLANS[axis](axis, values, settings, device) as plan:
        works = {f"{name} {value}": work for (name, value), work in plan.works.items()}
        warmup = 0 if axis == SCORES_AXIS else 1  # scores were made once when they were compared
        done, total = 0, len(works) * (warmup + settings.rounds)

        def on_step(what: str) -> None:
            nonlocal done
            done += 1
            tell(what, done, total)

        rounds = interleave(
            works,  # type: ignore[arg-type]  # what a work returns is dropped
            rounds=settings.rounds,
            warmup=warmup,
            measure=meter_for(device),
            seed=settings.seed,
            on_step=on_step,
        )
    if works and len(rounds.finished) < MINIMUM_ROUNDS:
        return None, True
    methods = {name: _method_result(name, plan, values, rounds, settings.seed) for name in plan.methods}
    result = AxisResult(
        meaning=AXES[axis].meaning,
        work=plan.work,
        fixed=plan.fixed,
        values=list(values),
        methods=methods,
        orders=[list(one) for one in rounds.finished] if works else [],
    )
    return result, rounds.interrupted


def _method_result(name: str, plan: _Plan, values: tuple[int, ...], rounds: Rounds, seed: int) -> MethodResult:
    result = MethodResult(
        description=plan.methods[name],
        not_run=plan.not_run.get(name),
        milliseconds=[],
        median_milliseconds=[],
        peak_memory_bytes=[],
        growth=None,
    )
    if name in plan.not_run:
        return result
    for value in values:
        samples = [one[f"{name} {value}"] for one in rounds.finished]
        result["milliseconds"].append([sample.milliseconds for sample in samples])
        result["median_milliseconds"].append(median(result["milliseconds"][-1]))
        result["peak_memory_bytes"].append(
            max((s.peak_bytes for s in samples if s.peak_bytes is not None), default=None)
        )
    result["growth"] = fit_growth(values, result["milliseconds"], seed)
    return result


@contextmanager
def _objective_plan(
    axis: str, values: tuple[int, ...], settings: ScalingSettings, device: torch.device
) -> Iterator[_Plan]:
    not_run = {name: reason for name, method in METHODS.items() if (reason := method.why_not(device)) is not None}
    works: dict[tuple[str, int], Callable[[int], object]] = {}
    for value in values:
        point = settings.point(axis, value)
        features = make_features(point, settings.seed, device)
        for name, method in METHODS.items():
            if name not in not_run:
                of_features = method.prepare(point, device)
                check(name, of_features, features, point)
                works[name, value] = partial(_objective_step, of_features, features)
    yield _Plan(
        work="forward and backward of Eq. 4 from given activations",
        fixed={symbol: number for symbol, number in asdict(settings.base).items() if symbol != axis},
        methods={name: method.description for name, method in METHODS.items()},
        not_run=not_run,
        works=works,
    )


def _objective_step(of_features: Any, features: Any, _number: int) -> None:
    forward_backward(of_features, features)


@contextmanager
def _scores_plan(
    _axis: str, values: tuple[int, ...], settings: ScalingSettings, device: torch.device
) -> Iterator[_Plan]:
    works: dict[tuple[str, int], Callable[[int], object]] = {}
    bounds: dict[str, float] = {}
    streaming, published = (ARMS[name] for name in SCORING)
    for value in values:
        problem = make_problem(
            value,
            width=settings.width,
            batch_norm=False,
            repeats=settings.repeats,
            batch_size=settings.score_batch_size,
            seed=settings.seed,
            device=device,
        )
        bounds = bounds or bounds_of((streaming, published), kappas(problem))
        sigma, others = streaming.run(problem), published.run(problem)
        assert sigma is not None
        assert others is not None
        compare(streaming.name, sigma, others, bounds)
        for arm in (streaming, published):
            works[arm.name, value] = lambda _number, arm=arm, problem=problem: arm.run(problem)  # type: ignore[misc]
    yield _Plan(
        work="scores of all nine layers and the pixels, forward passes included",
        fixed={"repeats": settings.repeats, "width": settings.width, "batch_size": settings.score_batch_size},
        methods={arm.name: arm.description for arm in (streaming, published)},
        not_run={},
        works=works,
    )


@contextmanager
def _ranks_plan(
    _axis: str, values: tuple[int, ...], settings: ScalingSettings, device: torch.device
) -> Iterator[_Plan]:
    not_run: dict[str, str] = {}
    works: dict[tuple[str, int], Callable[[int], object]] = {}
    with ExitStack() as started:
        if device.type == "cpu":
            for number in values:
                ranks = started.enter_context(Ranks(number, settings.base, settings.seed))
                for method in DESCRIPTIONS:
                    works[method, number] = lambda _number, ranks=ranks, method=method: ranks(method)  # type: ignore[misc]
        else:
            not_run = dict.fromkeys(DESCRIPTIONS, "gloo processes share a batch on a CPU only (--device cpu)")
        yield _Plan(
            work="forward and backward of Eq. 4 from given activations, until the last process is done",
            fixed=asdict(settings.base),
            methods=DESCRIPTIONS,
            not_run=not_run,
            works=works,
        )


_PLANS = dict.fromkeys(OBJECTIVE_AXES, _objective_plan) | {SCORES_AXIS: _scores_plan, RANKS_AXIS: _ranks_plan}


def _resolved(settings: ScalingSettings, device: torch.device) -> dict[str, Any]:
    """Everything that has an influence on a time, defaults included."""
    return {
        **asdict(settings),
        "axes": list(settings.axes),
        "values": {axis: list(settings.values_of(axis)) for axis in AXES if axis in settings.axes},
        "device": str(device),
        "dtype": "float32",
    }
