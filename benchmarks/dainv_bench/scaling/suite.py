"""``dainv-bench scaling``: how cost grows, one axis at a time, all values and methods of it side by side."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

import torch

from dainv_bench.progress import Steps, Tell, silent
from dainv_bench.results import begin, end
from dainv_bench.scaling.axes import AXES
from dainv_bench.scaling.fit import fit_growth
from dainv_bench.scaling.plans import Plan, plan_for
from dainv_bench.scaling.results import AxisResult, MethodResult, ScalingResult
from dainv_bench.scaling.settings import ScalingSettings
from dainv_bench.timing import Rounds, interleave, measure_each, meter_for
from dainv_kernels.backends import choose_backend


def measure(settings: ScalingSettings, tell: Tell = silent) -> Iterator[ScalingResult]:
    """Time every method at every value of every axis, and fit how the times grow.

    Args:
        settings: what to measure.
        tell: told after every step what is going on, how many steps are done, and of how many.

    Yields:
        After each axis the result as far as it is; after a Ctrl-C that of the rounds finished until then.

    Raises:
        UserError: no such device, methods that disagree, or a batch that ranks cannot share.
        KeyboardInterrupt: before there were rounds enough to say anything.
    """
    device = settings.timed_device()
    chosen = [axis for axis in AXES if axis in settings.axes]
    values = {axis: list(settings.values_of(axis)) for axis in chosen}
    backend = choose_backend("auto", torch.empty(1, device=device))
    head = begin("scaling", settings.resolved(device, values=values, dtype="float32", backend=backend))

    def measure_axis(axis: str) -> tuple[AxisResult, bool]:
        prefix = f"{axis} ({chosen.index(axis) + 1} of {len(chosen)}): "
        return _measure_axis(axis, settings, device, lambda what, done, total: tell(prefix + what, done, total))

    for axes, interrupted in measure_each(chosen, measure_axis):
        yield ScalingResult(**end(head, interrupted), axes=axes)


def _measure_axis(axis: str, settings: ScalingSettings, device: torch.device, tell: Tell) -> tuple[AxisResult, bool]:
    """Result, and whether Ctrl-C came."""
    tell("checking that all agree", 0, 1)
    with plan_for(axis, settings, device) as plan:
        rounds = interleave(
            {f"{name} {value}": work for (name, value), work in plan.works.items()},
            rounds=settings.rounds if plan.works else 0,
            warmup=plan.warmup,
            measure=meter_for(device),
            seed=settings.seed,
            on_step=Steps(tell, len(plan.works) * (plan.warmup + settings.rounds)),
        )
    values = list(settings.values_of(axis))
    result = AxisResult(
        meaning=AXES[axis].meaning,
        work=plan.work,
        fixed=dict(plan.fixed),
        values=values,
        methods={name: _method_result(name, plan, values, rounds, settings.seed) for name in plan.methods},
        orders=rounds.orders,
    )
    return result, rounds.interrupted


def _method_result(name: str, plan: Plan, values: list[int], rounds: Rounds, seed: int) -> MethodResult:
    samples = [rounds.milliseconds(f"{name} {value}") for value in values] if plan.works else []
    return MethodResult(
        description=plan.methods[name],
        not_run=plan.not_run,
        milliseconds=samples,
        median_milliseconds=[median(one) for one in samples],
        peak_memory_bytes=[rounds.peak_bytes(f"{name} {value}") for value in values] if plan.works else [],
        growth=fit_growth(values, samples, seed) if samples else None,
    )
