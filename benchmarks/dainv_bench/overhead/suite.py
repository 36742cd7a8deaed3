"""``dainv-bench overhead``: what the objective adds to a training step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from statistics import median
from typing import Any

import torch

from dainv.models.allcnn import AllCNNC
from dainv.settings import TrainSettings
from dainv_bench.overhead.allocator import malloc_variables, set_allocator
from dainv_bench.overhead.arms import ARMS, BASELINE, Arm, Problem, published_problem
from dainv_bench.overhead.equality import Agreement, check_agreement
from dainv_bench.overhead.results import ArmResult, OverheadResult, Verdict
from dainv_bench.overhead.settings import OverheadSettings
from dainv_bench.overhead.training_step import Batches, Loader, TrainingStep
from dainv_bench.progress import Steps, Tell, silent
from dainv_bench.results import begin, end
from dainv_bench.statistics import judge, median_interval, paired_overhead
from dainv_bench.timing import Rounds, interleave, meter_for
from dainv_bench.workload import IMAGE_SIZE, N_CLASSES, arithmetic_on, make_batches, make_network

_N_BATCHES = 4  # the arms go through the same few batches in turn


def measure(settings: OverheadSettings, tell: Tell = silent) -> Iterator[OverheadResult]:
    """Check that the arms agree, then time them side by side.

    Args:
        settings: what to measure. The baseline runs whether it is named or not.
        tell: told after every step what is going on, how many steps are done, and of how many.

    Yields:
        The result; after a Ctrl-C that of the rounds finished until then.

    Raises:
        UserError: no such device, data or allocator, or arms that disagree.
        KeyboardInterrupt: before there were rounds enough to say anything.
    """
    device = settings.timed_device()
    set_allocator(settings.allocator)
    batches, network = _batches_and_network(settings, device)
    problem = published_problem(network, settings.n_images, settings.views, device)
    chosen = [arm for arm in ARMS.values() if arm.name == BASELINE or arm.name in settings.arms]
    not_run = {arm.name: reason for arm in chosen if (reason := arm.why_not(device)) is not None}
    running = [arm for arm in chosen if arm.name not in not_run]
    with_objective = [arm for arm in running if arm.taps]

    head = begin("overhead", _resolved(settings, problem, len(batches)))
    step = Steps(tell, len(with_objective) + (settings.warmup + settings.rounds) * len(running))
    works = {arm.name: _work(arm, problem, network, batches, settings.epoch) for arm in running}
    agreements = check_agreement(with_objective, problem, network, batches[0], step)
    rounds = interleave(
        works,
        rounds=settings.rounds,
        warmup=settings.warmup,
        measure=meter_for(device),
        seed=settings.seed,
        on_step=step,
    )
    arms = {arm.name: _arm_result(arm, rounds, not_run.get(arm.name), agreements.get(arm.name)) for arm in chosen}
    verdict = _verdict(chosen, arms, settings.limit)
    yield OverheadResult(**end(head, rounds.interrupted), arms=arms, orders=rounds.orders, verdict=verdict)


def _batches_and_network(settings: OverheadSettings, device: torch.device) -> tuple[Batches, AllCNNC]:
    make = partial(make_network, settings.width, settings.batch_norm, settings.seed, device)
    if settings.epoch:
        loader = Loader(settings.data, settings.n_images, settings.views, settings.seed, device)
        return loader, make(loader.n_classes, loader.in_channels)
    return make_batches(_N_BATCHES, settings.n_images, settings.views, settings.seed, device), make()


def _work(arm: Arm, problem: Problem, network: AllCNNC, batches: Batches, epoch: bool) -> Callable[[int], None]:
    step, updates = TrainingStep(network, arm.prepare(problem), batches), len(batches)

    def whole_epoch(number: int) -> None:
        for update in range(updates):
            step(number * updates + update)

    return whole_epoch if epoch else step


def _resolved(settings: OverheadSettings, problem: Problem, n_batches: int) -> dict[str, Any]:
    published = TrainSettings()
    return settings.resolved(
        problem.device,
        n_images=problem.n_images,
        image_size=IMAGE_SIZE,
        n_classes=N_CLASSES,
        data=settings.data if settings.epoch else None,
        updates=n_batches if settings.epoch else 1,
        malloc_variables=malloc_variables(),
        **arithmetic_on(problem.device),
        alpha=published.alpha,
        layer_weights=problem.weights,
        normalization=published.normalization,
        learning_rate=published.learning_rate,
        momentum=published.momentum,
    )


def _arm_result(arm: Arm, rounds: Rounds, not_run: str | None, agreement: Agreement | None) -> ArmResult:
    times = rounds.milliseconds(arm.name) if not_run is None else []
    overhead = None
    if times and arm.name != BASELINE:
        overhead = median_interval(paired_overhead(times, rounds.milliseconds(BASELINE)))
    return ArmResult(
        description=arm.description,
        not_run=not_run,
        milliseconds=times,
        median_milliseconds=median(times) if times else None,
        overhead_percent=overhead,
        peak_memory_bytes=rounds.peak_bytes(arm.name) if times else None,
        agreement=agreement,
    )


def _verdict(chosen: Iterable[Arm], arms: dict[str, ArmResult], limit: float) -> Verdict | None:
    """The cheapest arm of ours against the limit; None where none of them ran."""
    ours = {arm.name: overhead for arm in chosen if arm.ours and (overhead := arms[arm.name]["overhead_percent"])}
    if not ours:
        return None
    best = min(ours, key=lambda name: ours[name]["median"])
    return Verdict(arm=best, overhead_percent=ours[best], limit_percent=limit, verdict=judge(ours[best], limit))
