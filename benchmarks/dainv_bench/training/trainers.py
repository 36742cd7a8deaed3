"""What is timed: the trainer of ``dainv train`` in several forms, on images that need no download."""

from __future__ import annotations

import torch

from dainv.data import ImageData, ImageSplit
from dainv.reporting import SilentReporter
from dainv.settings import TrainSettings
from dainv.training import Trainer
from dainv_bench.training.results import BASELINE, EAGER, PLAIN
from dainv_bench.training.settings import TrainingSettings
from dainv_bench.workload import N_CLASSES, smooth_images


class Messages(SilentReporter):
    """Keeps what a trainer says.

    Attributes:
        kept: all of it, in order.
    """

    def __init__(self) -> None:
        self.kept: list[str] = []

    def message(self, text: str) -> None:
        """One more."""
        self.kept.append(text)


def make_trainer(settings: TrainingSettings, data: ImageData, precision: str, form: str, messages: Messages) -> Trainer:
    """What ``dainv train --fused`` would train with.

    Args:
        settings: of the suite.
        data: what to train on.
        precision: of the steps.
        form: with or without the objective, recorded or eager, augmented or not.
        messages: told why a step is not recorded.
    """
    published = TrainSettings()
    return Trainer(
        TrainSettings(
            data=data.name,
            batch_size=settings.batch_size,
            views=settings.views,
            width=settings.width,
            batch_norm=settings.batch_norm,
            alpha=0.0 if form == BASELINE else published.alpha,
            augmentation="none" if form == PLAIN else published.augmentation,
            fused=True,
            backend=settings.backend,
            precision=precision,
            cuda_graph=form != EAGER,
            device=settings.device,
            seed=settings.seed,
        ),
        data,
        messages,
    )


def made_up_data(n_train: int, n_test: int, seed: int) -> ImageData:
    """Smooth images of the size of CIFAR-10's with random labels, for machines without it."""
    generator = torch.Generator().manual_seed(seed)

    def split(number: int) -> ImageSplit:
        images = smooth_images(number, generator).mul(255).round().to(torch.uint8)
        return ImageSplit(images, torch.randint(N_CLASSES, (number,), generator=generator))

    return ImageData("smooth", split(n_train), split(n_test), tuple("0123456789"))
