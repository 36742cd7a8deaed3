"""``dainv-bench training``: that recorded steps are the eager ones, then what a step takes with and without Eq. 4."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from statistics import median

import torch
from torch import Tensor

from dainv.data import ImageData
from dainv.plan import time_evaluation
from dainv.settings import TrainSettings
from dainv.training import Trainer
from dainv_bench.progress import Tell, silent
from dainv_bench.results import begin, end
from dainv_bench.statistics import median_interval, paired_overhead
from dainv_bench.timing import Rounds, interleave, measure_each, meter_for
from dainv_bench.training.results import BASELINE, EAGER, OBJECTIVE, PLAIN, PrecisionResult, TrainingResult
from dainv_bench.training.settings import TrainingSettings
from dainv_bench.training.trainers import Messages, made_up_data, make_trainer

_CIFAR_TRAIN, _CIFAR_TEST = 50_000, 10_000


def measure(settings: TrainingSettings, tell: Tell = silent) -> Iterator[TrainingResult]:
    """Compare and time the steps of each precision.

    Args:
        settings: what to measure. Without a CUDA device nothing is recorded.
        tell: told what is going on, how many precisions are done, and of how many.

    Yields:
        After each precision the result as far as it is; after a Ctrl-C that of the rounds finished until then.

    Raises:
        UserError: no such device.
        KeyboardInterrupt: before there was anything to keep.
    """
    device = settings.timed_device()
    chosen = list(dict.fromkeys(settings.precision))
    data = made_up_data(max(2000, 4 * settings.n_images), 1000, settings.seed)
    head = begin("training", settings.resolved(device))

    def measure_precision(precision: str) -> tuple[PrecisionResult, bool]:
        return _measure_one(
            settings, data, precision, lambda what: tell(f"{precision}: {what}", chosen.index(precision), len(chosen))
        )

    for precisions, interrupted in measure_each(chosen, measure_precision):
        yield TrainingResult(**end(head, interrupted), precisions=precisions)


def _measure_one(
    settings: TrainingSettings, data: ImageData, precision: str, tell: Callable[[str], None]
) -> tuple[PrecisionResult, bool]:
    """Result, and whether Ctrl-C came."""
    tell("comparing")
    messages = Messages()
    trainers = {
        form: make_trainer(settings, data, precision, form, messages) for form in (BASELINE, OBJECTIVE, EAGER, PLAIN)
    }
    loss_error, update_error = _errors(trainers[OBJECTIVE], trainers[EAGER], settings.compared)
    device, recorded = trainers[OBJECTIVE].device, trainers[OBJECTIVE].training_step.recorded
    rounds = interleave(
        {form: partial(_turn, trainer, settings.steps_a_turn) for form, trainer in trainers.items()},
        rounds=settings.rounds,
        warmup=1,
        measure=meter_for(device, queued=True),
        seed=settings.seed,
        on_step=tell,
    )
    times = _times(rounds, trainers, settings.steps_a_turn)
    medians = {form: median(values) for form, values in times.items()}
    evaluation = 1e3 * time_evaluation(trainers[OBJECTIVE]) * _CIFAR_TEST / len(data.test)
    published = TrainSettings(batch_size=settings.batch_size, views=settings.views)
    updates = published.total_steps(_CIFAR_TRAIN)
    result = PrecisionResult(
        recorded=recorded,
        not_recorded=None if recorded else _why_not_recorded(device, messages),
        loss_error=loss_error if recorded else None,
        update_error=update_error if recorded else None,
        milliseconds=times,
        median_milliseconds=medians,
        overhead_percent=median_interval(paired_overhead(times[OBJECTIVE], times[BASELINE])),
        augmentation_percent=median_interval(-paired_overhead(times[PLAIN], times[OBJECTIVE])),
        evaluation_milliseconds=evaluation,
        seconds_of_350_epochs=(updates * medians[OBJECTIVE] + (published.epochs + 1) * evaluation) / 1e3,
    )
    return result, rounds.interrupted


def _errors(recorded: Trainer, eager: Trainer, steps: int) -> tuple[float, float]:
    """Of losses, the largest, and of all updates together; relative."""
    start = _parameters(eager)
    losses, expected = (
        torch.stack([trainer.update().clone() for _ in range(steps)])[:, 0] for trainer in (recorded, eager)
    )
    mine, theirs = _parameters(recorded), _parameters(eager)
    return float(((losses - expected).abs() / expected.abs()).max()), float(
        (mine - theirs).norm() / (theirs - start).norm()
    )


def _parameters(trainer: Trainer) -> Tensor:
    return torch.cat([parameter.detach().double().flatten() for parameter in trainer.model.parameters()])


def _turn(trainer: Trainer, steps: int, _number: int) -> None:
    for _ in range(steps):
        trainer.update()


def _times(rounds: Rounds, trainers: Mapping[str, Trainer], steps: int) -> dict[str, list[float]]:
    return {form: [one / steps for one in rounds.milliseconds(form)] for form in trainers}


def _why_not_recorded(device: torch.device, messages: Messages) -> str:
    if device.type != "cuda":
        return f"no CUDA graph on {device}"
    return messages.kept[-1] if messages.kept else "no reason given"
