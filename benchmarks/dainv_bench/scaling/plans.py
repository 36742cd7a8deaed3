"""What there is to do along each axis, made and checked before anything is timed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch

from dainv_bench.scaling.axes import OBJECTIVE_AXES, RANKS_AXIS, SCORES_AXIS
from dainv_bench.scaling.objectives import METHODS, Features, OfFeatures, check, exact, forward_backward, make_features
from dainv_bench.scaling.ranks import DESCRIPTIONS, Ranks
from dainv_bench.scaling.settings import ScalingSettings
from dainv_bench.scores.agreement import bounds_of, compare, kappas
from dainv_bench.scores.arms import ARMS, SCORING, Arm, Problem, make_problem


@dataclass(frozen=True)
class Plan:
    """What is timed along an axis.

    Attributes:
        work: in words.
        fixed: what the rest stays at.
        methods: name -> description.
        works: by method and value; each is given the number of the step. Empty where nothing can be run.
        not_run: why nothing can be run.
        warmup: steps of each before it is timed.
    """

    work: str
    fixed: Mapping[str, Any]
    methods: Mapping[str, str]
    works: Mapping[tuple[str, int], Callable[[int], None]]
    not_run: str | None = None
    warmup: int = 1


def plan_for(axis: str, settings: ScalingSettings, device: torch.device) -> AbstractContextManager[Plan]:
    """The plan of an axis; processes that it needs live as long as the context.

    Raises:
        UserError: methods that disagree.
    """
    return _PLANS[axis](axis, settings, device)


@contextmanager
def _objective_plan(axis: str, settings: ScalingSettings, device: torch.device) -> Iterator[Plan]:
    works: dict[tuple[str, int], Callable[[int], None]] = {}
    for value in settings.values_of(axis):
        point = settings.point(axis, value)
        features = make_features(point, settings.seed, device)
        truth = exact(features, point)
        for name, method in METHODS.items():
            of_features = method.prepare(point, device)
            check(name, of_features, features, truth, point)
            works[name, value] = partial(_objective_step, of_features, features)
    yield Plan(
        work="forward and backward of Eq. 4 from given activations",
        fixed={symbol: number for symbol, number in asdict(settings.base).items() if symbol != axis},
        methods={name: method.description for name, method in METHODS.items()},
        works=works,
    )


def _objective_step(of_features: OfFeatures, features: Features, _number: int) -> None:
    forward_backward(of_features, features)


@contextmanager
def _scores_plan(axis: str, settings: ScalingSettings, device: torch.device) -> Iterator[Plan]:
    works: dict[tuple[str, int], Callable[[int], None]] = {}
    bounds: dict[str, float] = {}
    streaming, published = (ARMS[name] for name in SCORING)
    for value in settings.values_of(axis):
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
            works[arm.name, value] = partial(_scores_step, arm, problem)
    yield Plan(
        work="scores of all nine layers and the pixels, forward passes included",
        fixed={"repeats": settings.repeats, "width": settings.width, "batch_size": settings.score_batch_size},
        methods={arm.name: arm.description for arm in (streaming, published)},
        works=works,
        warmup=0,  # scores were made once when they were compared
    )


def _scores_step(arm: Arm, problem: Problem, _number: int) -> None:
    arm.run(problem)


@contextmanager
def _ranks_plan(axis: str, settings: ScalingSettings, device: torch.device) -> Iterator[Plan]:
    works: dict[tuple[str, int], Callable[[int], None]] = {}
    on_cpu = device.type == "cpu"
    with ExitStack() as started:
        for number in settings.values_of(axis) if on_cpu else ():
            ranks = started.enter_context(Ranks(number, settings.base, settings.seed))
            for method in DESCRIPTIONS:
                works[method, number] = partial(_ranks_step, ranks, method)
        yield Plan(
            work="forward and backward of Eq. 4 from given activations, until the last process is done",
            fixed=asdict(settings.base),
            methods=DESCRIPTIONS,
            works=works,
            not_run=None if on_cpu else "gloo processes share a batch on a CPU only (--device cpu)",
        )


def _ranks_step(ranks: Ranks, method: str, _number: int) -> None:
    ranks(method)


_PLANS = dict.fromkeys(OBJECTIVE_AXES, _objective_plan) | {SCORES_AXIS: _scores_plan, RANKS_AXIS: _ranks_plan}
