"""Every setting of a training run. The defaults are the published run (Section 2.1)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dainv.errors import UserError
from dainv.names import BACKENDS, SCHEMES
from dainv.schedule import AlphaSchedule, begins, multiplied, parse_alpha_schedule

# Settings that a resumed run may change: where things are, how they run and how often to save, not what is computed.
RESUMABLE = (
    "data",
    "data_root",
    "workers",
    "device",
    "compile",
    "cuda_graph",
    "checkpoint_minutes",
    "tensorboard",
)
PRECISIONS = ("fp32", "tf32", "bf16")
SCOPES = ("global", "local")

_COUNTS = ("epochs", "steps", "batch_size", "views", "image_size")
_POSITIVE = ("learning_rate", "spread", "width", "clip_gradients")
_NOT_NEGATIVE = ("weight_decay", "checkpoint_minutes", "workers")
_CHOICES = {"backend": ("auto", *BACKENDS), "scheme": SCHEMES, "precision": PRECISIONS, "invariance_scope": SCOPES}
_LAST_SEED = 2**32 - 1


@dataclass(frozen=True)
class TrainSettings:
    """Settings of ``dainv train``; the command line documents each where it defines the option of the same name."""

    data: str = "cifar10"
    data_root: str = "data"
    image_size: int | None = None
    stream: str = "auto"
    workers: int | None = None
    model: str = "allcnn"
    weights: str | None = None
    layers: tuple[str, ...] = ()
    epochs: int = 350
    steps: int | None = None
    batch_size: int = 128
    views: int = 8
    augmentation: str = "heavier"
    interpolation: str = "bilinear"
    alpha: float = 0.1
    alpha_schedule: str = ""
    spread: float = 10.0
    scheme: str = "exponential"
    normalization: str = "pairs"
    fused: bool = False
    backend: str | None = None
    invariance_scope: str = "global"
    batch_norm: bool = False
    width: float = 1.0
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 0.0
    milestones: tuple[int, ...] = (200, 250, 300)
    milestone_epochs: int = 350
    decay: float = 0.1
    clip_gradients: float | None = None
    seed: int = 0
    device: str = "auto"
    precision: str = "fp32"
    compile: bool = False
    cuda_graph: bool | None = None
    deterministic: bool = False
    checkpoint_minutes: float = 5.0
    tensorboard: bool = False

    def __post_init__(self) -> None:
        """Reject what cannot be trained.

        Raises:
            UserError: a setting outside its range.
        """
        self._expect(_COUNTS, "at least 1", lambda value: value >= 1)
        self._expect(_POSITIVE, "a positive number", lambda value: 0 < value < math.inf)
        self._expect(_NOT_NEGATIVE, "0 or more", lambda value: 0 <= value < math.inf)
        self._expect(("alpha",), "a share from 0 to 1", lambda value: 0 <= value <= 1)
        self._expect(("momentum",), "0 or more, but less than 1", lambda value: 0 <= value < 1)
        self._expect(("seed",), f"0 to {_LAST_SEED}", lambda value: 0 <= value <= _LAST_SEED)
        for name, known in _CHOICES.items():
            self._expect((name,), f"one of {', '.join(known)}", known.__contains__)
        if self.batch_size % self.views:
            raise UserError(
                f"--batch-size {self.batch_size} is not a multiple of --views {self.views}: "
                "a batch is made of whole groups"
            )
        if self.batch_size < 2:
            raise UserError("--batch-size: expected at least 2 samples")
        if self.views == 1 and self.alpha:
            raise UserError(
                "--views 1: no image has two views that could be compared; expected 2 or more, or --alpha 0"
            )
        self._alpha_factors()

    def _expect(self, names: tuple[str, ...], what: str, holds: Callable[[Any], bool]) -> None:
        for name in names:
            value = getattr(self, name)
            try:
                good = value is None or holds(value)
            except TypeError:  # of a config.json that somebody has edited
                good = False
            if not good:
                raise UserError(f"--{name.replace('_', '-')}: expected {what}, got {value}")

    @property
    def images_per_step(self) -> int:
        """K, the number of source images in a batch."""
        return self.batch_size // self.views

    def steps_per_epoch(self, n_images: int) -> int:
        """Updates in an epoch: samples, not source images, are counted, as the published 391 for CIFAR-10."""
        return -(-n_images // self.batch_size)

    def total_steps(self, n_images: int) -> int:
        """Updates in the whole run."""
        return self.steps if self.steps is not None else self.epochs * self.steps_per_epoch(n_images)

    def changes(self, n_epochs: int) -> list[int]:
        """Epochs, counted from 0, at which the learning rate or alpha may be another one; the first is 0."""
        starts = [start for start, _ in self._alpha_factors()]
        begun = {begins(epoch, n_epochs, self.milestone_epochs) for epoch in (0, *self.milestones, *starts)}
        return sorted(epoch for epoch in begun if epoch < n_epochs)

    def learning_rate_at(self, epoch: int, n_epochs: int) -> float:
        """Learning rate during an epoch, counted from 0; the milestones are scaled from 350 epochs to ``n_epochs``."""
        passed = sum(begins(milestone, n_epochs, self.milestone_epochs) <= epoch for milestone in self.milestones)
        return self.learning_rate * self.decay**passed

    def alpha_at(self, epoch: int, n_epochs: int) -> float:
        """Alpha during an epoch, counted from 0; its schedule is scaled like the milestones."""
        schedule = self._alpha_factors()
        passed = [factor for start, factor in schedule if begins(start, n_epochs, self.milestone_epochs) <= epoch]
        return multiplied(self.alpha, passed)

    def _alpha_factors(self) -> AlphaSchedule:
        return parse_alpha_schedule(self.alpha_schedule, self.alpha, self.milestone_epochs)
