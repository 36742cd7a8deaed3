"""What ``dainv score`` is asked for."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import torch
from torch import Tensor

from dainv.augment import SCHEMES, Augmentation, augmentation
from dainv.errors import UserError
from dainv.models.foreign import function_named
from dainv.scores.sampling import Sampling
from dainv.scores.transforms import Transform

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class ScoreSettings(Sampling):
    """Settings of ``dainv score``; the command line documents each where it defines the option.

    Raises:
        UserError: a setting outside its range.
    """

    model: str
    data: str | None = None
    layers: tuple[str, ...] = ()
    weights: str | None = None
    checkpoint: str = "newest"
    data_root: str | None = None
    image_size: int | None = None
    transform: tuple[str, ...] = ("half-extremes",)
    by: tuple[str, ...] = ()
    curves: bool = False
    variance_ratio: bool = False
    normalize: str | None = None

    def __post_init__(self) -> None:
        """Reject what cannot be scored."""
        super().__post_init__()
        if self.variance_ratio and self.repeats < 2:
            raise UserError(f"--repeats: --variance-ratio needs at least 2, got {self.repeats}")
        if twice := [name for name in self.transform if self.transform.count(name) > 1]:
            raise UserError(f"--transform: {twice[0]} given twice")
        if "transformation" in self.by and self.scheme is None:
            raise UserError(f"--by transformation takes a scheme apart: name one of {', '.join(SCHEMES)}")
        _mean_and_deviation(self.normalize)

    @property
    def scheme(self) -> Augmentation | None:
        """The first transformation that is an augmentation scheme."""
        return next((SCHEMES[name] for name in self.transform if name in SCHEMES), None)


class Normalization:
    """Subtracts a mean and divides by a standard deviation, channel by channel."""

    def __init__(self, mean: tuple[float, ...], deviation: tuple[float, ...]) -> None:
        self._mean = torch.tensor(mean)[:, None, None]
        self._deviation = torch.tensor(deviation)[:, None, None]

    def __call__(self, images: Tensor) -> Tensor:
        """``(n, C, H, W)`` images in [0, 1] to as many."""
        self._mean, self._deviation = self._mean.to(images), self._deviation.to(images)
        return (images - self._mean) / self._deviation


def normalization(text: str | None, channels: int) -> Normalization | None:
    """From images in [0, 1] to what a model expects.

    Args:
        text: ``imagenet``, or ``MEAN/STD``, each a number or one a channel; none if not given.
        channels: of the images.

    Raises:
        UserError: another form, or another number of channels.
    """
    if (found := _mean_and_deviation(text)) is None:
        return None
    mean, deviation = found
    if len(mean) not in (1, channels):
        raise UserError(f"--normalize {text}: {len(mean)} channels, the images have {channels}")
    return Normalization(mean, deviation)


def _mean_and_deviation(text: str | None) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    if text is None:
        return None
    if text == "imagenet":
        return IMAGENET
    try:
        parts = [tuple(float(number) for number in part.split(",")) for part in re.split(r"[/\s]+", text.strip())]
        mean, deviation = parts
    except ValueError:
        raise UserError(
            f"--normalize {text}: expected imagenet or MEAN/STD, each a number or one a channel, "
            "as in 0.5/0.25 or 0.49,0.48,0.45/0.25,0.24,0.26"
        ) from None
    if len(mean) != len(deviation):
        raise UserError(f"--normalize {text}: {len(mean)} means and {len(deviation)} deviations")
    if not all(map(math.isfinite, mean)) or not all(math.isfinite(one) and one > 0 for one in deviation):
        raise UserError(f"--normalize {text}: expected finite means and positive deviations")
    return mean, deviation


def load_transform(name: str) -> Transform:
    """A transformation by name: an augmentation scheme, or ``module:function`` of a batch.

    The current directory is searched for the module. The function takes float images ``(n, C, H, W)`` in [0, 1] and
    gives as many of the same shape.

    Raises:
        UserError: nothing of that name.
    """
    if ":" not in name:
        return augmentation(name)
    return function_named(name)
