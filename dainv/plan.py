"""What a run would do and what it would cost, found out without writing anything (`dainv train --dry-run`)."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from rich.console import Group, RenderableType
from rich.table import Table
from torch import Tensor

from dainv.data import ImageData
from dainv.evaluation import accuracy
from dainv.models.layers import describe_layers
from dainv.reporting import Reporter
from dainv.settings import TrainSettings
from dainv.training import Trainer

_TIMED_SECONDS = 1.0  # at least one update, and more of them where they are short
_MOST_UPDATES = 50
_EVALUATED = {"cpu": 50, "cuda": 500}  # test images, at most, to time an evaluation with: one batch of it


@dataclass(frozen=True)
class Plan:
    """A run that was not started.

    Attributes:
        settings: what was asked for.
        config: what ``config.json`` would hold.
        n_epochs: epochs, the last one perhaps not whole.
        dimensions: layer name -> D.
        weights: layer name -> alpha^(l) in the first epoch.
        schedule: changes of learning rate or alpha, as (epochs before it, learning rate, alpha), the first at 0.
        n_parameters: trained numbers.
        timed_updates: how many updates were timed, after one that was not.
        update_seconds: of an update with its batch, the mean.
        evaluation_seconds: of an evaluation on the test set, estimated from a part of it.
        memory: what -> bytes on the device.
        held: bytes that CUDA's allocator held at most, or None.
    """

    settings: TrainSettings
    config: dict[str, Any]
    n_epochs: int
    dimensions: dict[str, int]
    weights: dict[str, float]
    schedule: tuple[tuple[int, float, float], ...]
    n_parameters: int
    timed_updates: int
    update_seconds: float
    evaluation_seconds: float
    memory: dict[str, int]
    held: int | None

    @property
    def seconds(self) -> float:
        """Estimated time of the run: all updates, and an evaluation before the first epoch and after each."""
        return self.config["total_steps"] * self.update_seconds + (self.n_epochs + 1) * self.evaluation_seconds


def make_plan(settings: TrainSettings, data: ImageData, reporter: Reporter) -> Plan:
    """Set up a run, train for a moment to time it, and forget it.

    Args:
        settings: what to do.
        data: the images.
        reporter: told what is worth knowing.

    Raises:
        UserError: what would keep the run from starting.
    """
    trainer = Trainer(settings, data, reporter)
    on_gpu = trainer.device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(trainer.device)
    weights = dict(zip(trainer.layers, trainer.weights, strict=True))
    reporter.message("timing a few updates")
    timed, update_seconds = _time_updates(trainer)
    held = torch.cuda.max_memory_reserved(trainer.device) if on_gpu else None
    evaluation_seconds = time_evaluation(trainer)
    found = {layer.name: layer.dimension for layer in describe_layers(trainer.model.cpu(), "*", data.image_shape)}
    dimensions = {name: found[name] for name in trainer.layers}
    return Plan(
        settings=settings,
        config=trainer.config,
        n_epochs=trainer.n_epochs,
        dimensions=dimensions,
        weights=weights,
        schedule=_schedule(settings, trainer.n_epochs),
        n_parameters=sum(parameter.numel() for parameter in trainer.model.parameters()),
        timed_updates=timed,
        update_seconds=update_seconds,
        evaluation_seconds=evaluation_seconds,
        memory=_memory(trainer, dimensions),
        held=held,
    )


def _schedule(settings: TrainSettings, n_epochs: int) -> tuple[tuple[int, float, float], ...]:
    found: list[tuple[int, float, float]] = []
    for epoch in settings.changes(n_epochs):
        now = settings.learning_rate_at(epoch, n_epochs), settings.alpha_at(epoch, n_epochs)
        if not found or found[-1][1:] != now:
            found.append((epoch, *now))
    return tuple(found)


def _time_updates(trainer: Trainer) -> tuple[int, float]:
    """How many updates were timed, and the seconds of one."""
    trainer.update()  # compiles, tunes, allocates and records
    _wait(trainer.device)
    begun, timed = time.perf_counter(), 0
    while timed < _MOST_UPDATES and (not timed or time.perf_counter() - begun < _TIMED_SECONDS):
        timed += 1
        trainer.update()
    _wait(trainer.device)
    return timed, (time.perf_counter() - begun) / timed


def time_evaluation(trainer: Trainer) -> float:
    """Seconds that an evaluation on the test set takes, from a part of it."""
    part = trainer.data.test.first(_EVALUATED[trainer.device.type])
    _wait(trainer.device)
    begun = time.perf_counter()
    accuracy(trainer.tapped, part)
    return (time.perf_counter() - begun) * len(trainer.data.test) / len(part)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _bytes(tensors: list[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _memory(trainer: Trainer, dimensions: dict[str, int]) -> dict[str, int]:
    """Bytes by what they are for; activations are what a backward pass needs: the views and the layers' outputs."""
    settings, image_shape = trainer.settings, trainer.config["data"]["image_shape"]
    kept_per_layer = 2 if settings.batch_norm else 1  # with normalisation, what goes into it too
    dtype = torch.bfloat16 if settings.precision == "bf16" else torch.float32
    numbers = torch.Size(image_shape).numel() + kept_per_layer * sum(dimensions.values())
    state = [value for of in trainer.optimizer.state.values() for value in of.values() if isinstance(value, Tensor)]
    return {
        "activations": settings.batch_size * numbers * dtype.itemsize,
        "parameters": _bytes(list(trainer.model.state_dict().values())),
        "gradients": _bytes(list(trainer.model.parameters())),
        "optimizer": _bytes(state),
        "images": trainer.data.train.nbytes + trainer.data.test.nbytes,
    }


def show(plan: Plan) -> RenderableType:
    """The plan on one screen of 80 columns."""
    settings, config = plan.settings, plan.config
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column()
    data = config["data"]
    shape = " × ".join(map(str, data["image_shape"]))
    facts.add_row("data", f"{data['name']}: {data['n_train']:,} to train, {data['n_test']:,} to test, {shape}")
    groups = f"{settings.images_per_step} images (K) × {settings.views} views (M)"
    facts.add_row("batch", f"{settings.batch_size} samples (B) = {groups}")
    epochs = "1 epoch" if plan.n_epochs == 1 else f"{plan.n_epochs} epochs"
    facts.add_row("updates", f"{config['steps_per_epoch']:,} an epoch, {config['total_steps']:,} in all ({epochs})")
    facts.add_row("learning rate", _changes([(epoch, rate) for epoch, rate, _ in plan.schedule]))
    facts.add_row("alpha", _changes([(epoch, alpha) for epoch, _, alpha in plan.schedule]))
    fused = "with the ReLUs" if settings.fused else "after the ReLUs"
    facts.add_row("backend", f"{config['backend']}, losses {fused}, on {config['device']}")
    facts.add_row("network", f"{config['model']['name']}, {plan.n_parameters:,} parameters, {settings.precision}")
    facts.add_row(
        "time",
        f"about {_duration(plan.seconds)}: {_duration(plan.update_seconds)} an update, the mean of "
        f"{plan.timed_updates} after a warm-up, and {_duration(plan.evaluation_seconds)} an evaluation",
    )
    facts.add_row("memory", ", ".join(f"{name} {_size(size)}" for name, size in plan.memory.items()))
    if plan.held is not None:
        facts.add_row("", f"CUDA's allocator held {_size(plan.held)}")
    layers = Table("layer", box=None, padding=(0, 2, 0, 0))
    layers.add_column("D", justify="right")
    layers.add_column("alpha^(l) at first", justify="right")
    for name, dimension in plan.dimensions.items():
        layers.add_row(name, f"{dimension:,}", f"{plan.weights[name]:.6f}")
    return Group(facts, "", layers, "a dry run: nothing was written")


def _changes(values: list[tuple[int, float]]) -> str:
    """A value and what it becomes, without repeats: other values change at other epochs."""
    changes = [now for before, now in pairwise(values) if now[1] != before[1]]
    later = ", ".join(f"{epoch}: {value:g}" for epoch, value in changes)
    return f"{values[0][1]:g}" + (f"; after epoch {later}" if later else "")


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{1000 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} seconds"


def _size(size: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{size:.3g} {unit}"
