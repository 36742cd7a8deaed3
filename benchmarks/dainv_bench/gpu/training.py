"""``dainv-bench training``: the whole step of ``dainv train``, augmentation included, eager and recorded, by precision.

First that recorded steps are the eager ones, then what a step takes with and without the objective.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from statistics import median
from typing import Any, TypedDict

import torch
from torch import Tensor
from torch.nn import functional

from dainv.data import ImageData, ImageSplit
from dainv.environment import environment
from dainv.errors import UserError
from dainv.plan import time_evaluation
from dainv.reporting import SilentReporter
from dainv.settings import PRECISIONS, TrainSettings
from dainv.training import Trainer
from dainv_bench.results import SCHEMA, load_average
from dainv_bench.statistics import MINIMUM_ROUNDS, Interval, median_interval, paired_overhead
from dainv_bench.timing import interleave, queued_meter_for
from dainv_bench.workload import IMAGE_SIZE, N_CLASSES

BASELINE, OBJECTIVE, EAGER, PLAIN = "baseline", "objective", "objective, eager", "objective, no augmentation"
_CIFAR_TRAIN, _CIFAR_TEST = 50_000, 10_000
_BLOBS = 3  # coarse pixels a side that an image is enlarged from


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of ``dainv-bench training``; the command line documents each where it defines the option."""

    batch_size: int = 128
    views: int = 8
    width: float = 1.0
    batch_norm: bool = False
    backend: str | None = None
    precision: tuple[str, ...] = PRECISIONS
    compared: int = 200
    rounds: int = 10
    steps_a_turn: int = 20
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        """Reject what cannot be measured.

        Raises:
            UserError: a setting outside its range.
        """
        if self.rounds < MINIMUM_ROUNDS:
            raise UserError(f"--rounds: expected at least {MINIMUM_ROUNDS}, got {self.rounds}")
        for name in ("compared", "steps_a_turn"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name.replace('_', '-')}: expected at least 1, got {getattr(self, name)}")
        for name in self.precision:
            if name not in PRECISIONS:
                raise UserError(f"--precision: there is no {name!r}; there are {', '.join(PRECISIONS)}")

    def trainer(self, data: ImageData, precision: str, form: str, messages: list[str]) -> Trainer:
        """What ``dainv train --fused`` would train with."""
        reporter = _Messages(messages)
        settings = TrainSettings(
            data=data.name,
            batch_size=self.batch_size,
            views=self.views,
            width=self.width,
            batch_norm=self.batch_norm,
            alpha=0.0 if form == BASELINE else TrainSettings().alpha,
            augmentation="none" if form == PLAIN else TrainSettings().augmentation,
            fused=True,
            backend=self.backend,
            precision=precision,
            cuda_graph=form != EAGER,
            device=self.device,
            seed=self.seed,
        )
        return Trainer(settings, data, reporter)


class PrecisionResult(TypedDict):
    """One precision."""

    recorded: bool  # whether steps ran as a CUDA graph
    not_recorded: str | None  # why not
    loss_error: float | None  # largest, of recorded against eager steps, relative
    update_error: float | None  # of what all those steps together did to the parameters, relative
    milliseconds: dict[str, list[float]]  # of one step, one a round
    median_milliseconds: dict[str, float]
    overhead_percent: Interval  # of the objective, on recorded steps
    augmentation_percent: Interval  # of a recorded step with the objective: what it takes longer than without
    evaluation_milliseconds: float  # of 10,000 test images
    seconds_of_350_epochs: float  # all updates and evaluations of the published run; checkpoints come on top


class TrainingResult(TypedDict):
    """What ``dainv-bench training`` writes."""

    schema: int
    suite: str
    date: str
    environment: dict[str, Any]
    load_average: dict[str, list[float] | None]
    settings: dict[str, Any]
    precisions: dict[str, PrecisionResult]


class _Messages(SilentReporter):
    def __init__(self, kept: list[str]) -> None:
        self._kept = kept

    def message(self, text: str) -> None:
        self._kept.append(text)


def smooth_images(n_train: int, n_test: int, seed: int) -> ImageData:
    """Random colour images of the size of CIFAR-10's, for machines without it; labels are random, too."""
    generator = torch.Generator().manual_seed(seed)

    def split(n: int) -> ImageSplit:
        coarse = torch.rand(n, 3, _BLOBS, _BLOBS, generator=generator)
        images = functional.interpolate(coarse, size=IMAGE_SIZE, mode="bicubic").clamp(0, 1)
        labels = torch.randint(N_CLASSES, (n,), generator=generator)
        return ImageSplit(images.mul(255).round().to(torch.uint8), labels)

    return ImageData("smooth", split(n_train), split(n_test), tuple("0123456789"))


def measure(
    settings: TrainingSettings, on_progress: Callable[[str, int, int], None] = lambda _what, _done, _all: None
) -> TrainingResult:
    """Compare and time the steps of each precision.

    Args:
        settings: what to measure. Without a CUDA device nothing is recorded.
        on_progress: told what is going on, how many precisions are done, and of how many.

    Raises:
        UserError: no such device.
        KeyboardInterrupt: during the rounds.
    """
    made_with, load_before = environment(), load_average()
    n_images = settings.batch_size // settings.views
    data = smooth_images(max(2000, 4 * n_images), 1000, settings.seed)
    found: dict[str, PrecisionResult] = {}
    device = ""
    for done, precision in enumerate(settings.precision):
        on_progress(f"{precision}: comparing", done, len(settings.precision))
        found[precision], device = _measure_one(settings, data, precision)
    return TrainingResult(
        schema=SCHEMA,
        suite="training",
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        environment=made_with,
        load_average={"before": load_before, "after": load_average()},
        settings={**asdict(settings), "device": device},
        precisions=found,
    )


def _measure_one(settings: TrainingSettings, data: ImageData, precision: str) -> tuple[PrecisionResult, str]:
    messages: list[str] = []
    trainers = {form: settings.trainer(data, precision, form, messages) for form in (BASELINE, OBJECTIVE, EAGER, PLAIN)}
    device = trainers[OBJECTIVE].device
    start = _parameters(trainers[EAGER])
    rows = {form: _rows(trainers[form], settings.compared) for form in (OBJECTIVE, EAGER)}
    recorded = trainers[OBJECTIVE].training_step.recorded
    loss_error = update_error = None
    if recorded:
        losses, expected = rows[OBJECTIVE][:, 0], rows[EAGER][:, 0]
        loss_error = float(((losses - expected).abs() / expected.abs()).max())
        ours, theirs = _parameters(trainers[OBJECTIVE]), _parameters(trainers[EAGER])
        update_error = float((ours - theirs).norm() / (theirs - start).norm())

    def turn(trainer: Trainer) -> Callable[[int], None]:
        def work(_number: int) -> None:
            for _ in range(settings.steps_a_turn):
                trainer.update()

        return work

    rounds = interleave(
        {form: turn(trainer) for form, trainer in trainers.items()},
        rounds=settings.rounds,
        warmup=1,
        measure=queued_meter_for(device),
        seed=settings.seed,
    )
    if rounds.interrupted:
        raise KeyboardInterrupt
    times = {form: [one[form].milliseconds / settings.steps_a_turn for one in rounds.finished] for form in trainers}
    medians = {form: median(values) for form, values in times.items()}
    evaluation = 1e3 * time_evaluation(trainers[OBJECTIVE]) * _CIFAR_TEST / len(data.test)
    published = TrainSettings(batch_size=settings.batch_size, views=settings.views)
    updates = published.total_steps(_CIFAR_TRAIN)
    return PrecisionResult(
        recorded=recorded,
        not_recorded=None if recorded else (messages[-1] if device.type == "cuda" else f"no CUDA graph on {device}"),
        loss_error=loss_error,
        update_error=update_error,
        milliseconds=times,
        median_milliseconds=medians,
        overhead_percent=median_interval(paired_overhead(times[OBJECTIVE], times[BASELINE])),
        augmentation_percent=median_interval(-paired_overhead(times[PLAIN], times[OBJECTIVE])),
        evaluation_milliseconds=evaluation,
        seconds_of_350_epochs=(updates * medians[OBJECTIVE] + (published.epochs + 1) * evaluation) / 1e3,
    ), str(device)


def _rows(trainer: Trainer, steps: int) -> Tensor:
    return torch.stack([trainer.update().clone() for _ in range(steps)])


def _parameters(trainer: Trainer) -> Tensor:
    return torch.cat([parameter.detach().double().flatten() for parameter in trainer.model.parameters()])
