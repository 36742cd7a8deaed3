"""``dainv-bench overhead``: what the objective adds to a training step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from statistics import median
from typing import Any

import torch

from dainv.devices import resolve_device
from dainv.environment import environment
from dainv.errors import UserError
from dainv.objective import layer_weights
from dainv.settings import TrainSettings
from dainv_bench.overhead.arms import ARMS, BASELINE, Arm, Problem
from dainv_bench.overhead.equality import Agreement, check_agreement
from dainv_bench.results import SCHEMA, ArmResult, OverheadResult, Verdict, load_average
from dainv_bench.statistics import MINIMUM_ROUNDS, judge, median_interval, paired_overhead
from dainv_bench.timing import Round, interleave, meter_for
from dainv_bench.workload import (
    IMAGE_SIZE,
    N_CLASSES,
    Batches,
    Loader,
    TrainingEpoch,
    TrainingStep,
    make_batches,
    make_network,
)

_N_BATCHES = 4  # the arms go through the same few batches in turn


@dataclass(frozen=True)
class OverheadSettings:
    """Settings of ``dainv-bench overhead``; the command line documents each where it defines the option."""

    batch_size: int = 128
    views: int = 8
    width: float = 1.0
    batch_norm: bool = False
    rounds: int = 20
    warmup: int = 3
    device: str = "auto"
    seed: int = 0
    arms: tuple[str, ...] = tuple(ARMS)
    limit: float = 10.0
    epoch: bool = False
    data: str = "digits"

    def __post_init__(self) -> None:
        """Reject what cannot be measured.

        Raises:
            UserError: a setting outside its range.
        """
        if self.views < 2:
            raise UserError(f"--views: expected at least 2, got {self.views}: one view has none to be compared with")
        if self.batch_size < self.views or self.batch_size % self.views:
            raise UserError(f"--batch-size {self.batch_size} is not a multiple of --views {self.views}")
        if self.rounds < MINIMUM_ROUNDS:
            raise UserError(f"--rounds: expected at least {MINIMUM_ROUNDS}, got {self.rounds}")
        if self.warmup < 1:
            raise UserError(f"--warmup: expected at least 1, got {self.warmup}")
        if not (math.isfinite(self.width) and self.width > 0):
            raise UserError(f"--width: expected a positive factor, got {self.width}")
        if not 0 <= self.seed < 2**63:
            raise UserError(f"--seed: expected 0 to 2^63 - 1, got {self.seed}")
        if not math.isfinite(self.limit):
            raise UserError(f"--limit: expected a percentage, got {self.limit}")
        for name in self.arms:
            if name not in ARMS:
                raise UserError(f"--arms: there is no arm {name!r}; there are {', '.join(ARMS)}")


def measure(
    settings: OverheadSettings, on_progress: Callable[[str, int, int], None] = lambda _what, _done, _all: None
) -> OverheadResult:
    """Check that the arms agree, then time them side by side.

    Args:
        settings: what to measure. The baseline runs whether it is named or not.
        on_progress: told after every step what is going on, how many steps are done, and of how many.

    Returns:
        The result; after a Ctrl-C that of the rounds finished until then.

    Raises:
        UserError: no such device, or arms that disagree.
        KeyboardInterrupt: before there were rounds enough to say anything.
    """
    device = resolve_device(settings.device)
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"--device {settings.device}: steps can be timed on cpu and cuda")
    published = TrainSettings()
    n_images = settings.batch_size // settings.views
    batches: Batches
    if settings.epoch:
        batches = Loader(settings.data, n_images, settings.views, settings.seed, device)
        shape = {"n_classes": batches.n_classes, "in_channels": batches.in_channels}
    else:
        batches = make_batches(_N_BATCHES, n_images, settings.views, settings.seed, device)
        shape = {}
    network = make_network(settings.width, settings.batch_norm, settings.seed, device, **shape)
    weights = layer_weights(len(network.layer_names), published.alpha, published.spread, published.scheme)
    problem = Problem(n_images, settings.views, weights, device)

    chosen = [arm for arm in ARMS.values() if arm.name == BASELINE or arm.name in settings.arms]
    not_run = {arm.name: reason for arm in chosen if (reason := arm.why_not(device)) is not None}
    running = [arm for arm in chosen if arm.name not in not_run]
    with_objective = [arm for arm in running if arm.taps]
    done, total = 0, len(with_objective) + (settings.warmup + settings.rounds) * len(running)

    def on_step(what: str) -> None:
        nonlocal done
        done += 1
        on_progress(what, done, total)

    made_with, load_before = environment(), load_average()
    works: dict[str, Callable[[int], None]] = {
        arm.name: TrainingStep(network, arm.prepare(problem), batches) for arm in running
    }
    if settings.epoch:
        works = {name: TrainingEpoch(step, len(batches)) for name, step in works.items()}  # type: ignore[arg-type]
    agreements = check_agreement(with_objective, problem, network, batches[0], on_step)
    rounds = interleave(
        works,
        rounds=settings.rounds,
        warmup=settings.warmup,
        measure=meter_for(device),
        seed=settings.seed,
        on_step=on_step,
    )
    if len(rounds.finished) < MINIMUM_ROUNDS:
        raise KeyboardInterrupt
    arms = {arm.name: _arm_result(arm, rounds.finished, not_run, agreements) for arm in chosen}
    return OverheadResult(
        schema=SCHEMA,
        suite="overhead",
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        interrupted=rounds.interrupted,
        environment=made_with,
        load_average={"before": load_before, "after": load_average()},
        settings={**_resolved(settings, published, problem), "updates": len(batches) if settings.epoch else 1},
        arms=arms,
        orders=[list(one) for one in rounds.finished],
        verdict=_verdict(chosen, arms, settings.limit),
    )


def _resolved(settings: OverheadSettings, published: TrainSettings, problem: Problem) -> dict[str, Any]:
    """Everything that has an influence on a time, defaults included."""
    return {
        **asdict(settings),
        "device": str(problem.device),
        "arms": list(settings.arms),
        "n_images": problem.n_images,
        "image_size": IMAGE_SIZE,
        "n_classes": N_CLASSES,
        "data": settings.data if settings.epoch else None,
        "dtype": "float32",
        "memory_format": "channels_last",
        "tf32_convolutions": problem.device.type == "cuda" and torch.backends.cudnn.allow_tf32,
        "alpha": published.alpha,
        "layer_weights": list(problem.weights),
        "normalization": published.normalization,
        "learning_rate": published.learning_rate,
        "momentum": published.momentum,
    }


def _arm_result(arm: Arm, rounds: list[Round], not_run: dict[str, str], agreements: dict[str, Agreement]) -> ArmResult:
    result = ArmResult(
        description=arm.description,
        not_run=not_run.get(arm.name),
        milliseconds=[],
        median_milliseconds=None,
        overhead_percent=None,
        peak_memory_bytes=None,
        agreement=agreements.get(arm.name),
    )
    if arm.name in not_run:
        return result
    samples = [one[arm.name] for one in rounds]
    result["milliseconds"] = [sample.milliseconds for sample in samples]
    result["median_milliseconds"] = median(result["milliseconds"])
    result["peak_memory_bytes"] = max((s.peak_bytes for s in samples if s.peak_bytes is not None), default=None)
    if arm.name != BASELINE:
        baseline = [one[BASELINE].milliseconds for one in rounds]
        result["overhead_percent"] = median_interval(paired_overhead(result["milliseconds"], baseline))
    return result


def _verdict(chosen: Iterable[Arm], arms: dict[str, ArmResult], limit: float) -> Verdict | None:
    """The cheapest arm of ours against the limit; None where none of them ran."""
    ours = {arm.name: overhead for arm in chosen if arm.ours and (overhead := arms[arm.name]["overhead_percent"])}
    if not ours:
        return None
    best = min(ours, key=lambda name: ours[name]["median"])
    return Verdict(arm=best, overhead_percent=ours[best], limit_percent=limit, verdict=judge(ours[best], limit))
