"""Every setting of a training run. The defaults are the published run (Section 2.1)."""

from __future__ import annotations

from dataclasses import dataclass

from dainv.errors import UserError
from dainv.objective import SCHEMES
from dainv.schedule import begins, multiplied, parse_alpha_schedule

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
        for name in ("epochs", "batch_size", "views"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name.replace('_', '-')}: expected at least 1, got {getattr(self, name)}")
        if self.steps is not None and self.steps < 1:
            raise UserError(f"--steps: expected at least 1, got {self.steps}")
        if self.batch_size % self.views:
            raise UserError(
                f"--batch-size {self.batch_size} is not a multiple of --views {self.views}: "
                "a batch is made of whole groups"
            )
        if self.batch_size < 2:
            raise UserError("--batch-size: expected at least 2 samples")
        if not 0 <= self.alpha <= 1:
            raise UserError(f"--alpha: expected a share from 0 to 1, got {self.alpha}")
        if self.spread <= 0 or self.width <= 0 or self.learning_rate <= 0:
            raise UserError("--spread, --width and --learning-rate have to be positive")
        if self.clip_gradients is not None and not self.clip_gradients > 0:
            raise UserError(f"--clip-gradients: expected a positive norm, got {self.clip_gradients}")
        if self.scheme not in SCHEMES:
            raise UserError(f"--scheme: expected one of {', '.join(SCHEMES)}, got {self.scheme}")
        if self.workers is not None and self.workers < 0:
            raise UserError(f"--workers: expected 0 or more, got {self.workers}")
        for name, known in (("precision", PRECISIONS), ("invariance_scope", SCOPES)):
            if getattr(self, name) not in known:
                option = name.replace("_", "-")
                raise UserError(f"--{option}: expected one of {', '.join(known)}, got {getattr(self, name)}")
        parse_alpha_schedule(self.alpha_schedule, self.alpha, self.milestone_epochs)

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

    def learning_rate_at(self, epoch: int, n_epochs: int) -> float:
        """Learning rate during an epoch, counted from 0; the milestones are scaled from 350 epochs to ``n_epochs``."""
        passed = sum(begins(milestone, n_epochs, self.milestone_epochs) <= epoch for milestone in self.milestones)
        return self.learning_rate * self.decay**passed

    def alpha_at(self, epoch: int, n_epochs: int) -> float:
        """Alpha during an epoch, counted from 0; its schedule is scaled like the milestones."""
        schedule = parse_alpha_schedule(self.alpha_schedule, self.alpha, self.milestone_epochs)
        passed = [factor for start, factor in schedule if begins(start, n_epochs, self.milestone_epochs) <= epoch]
        return multiplied(self.alpha, passed)
