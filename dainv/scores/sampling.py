"""Which images are scored, and how often each is transformed: asked by every command that measures σ."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from dainv.data import ImageData, choose_images
from dainv.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """What the scores of Eq. 2 are taken over.

    Attributes:
        repeats: transformations of each image.
        images: number of test images, drawn by the seed; all if not given.
        batch_size: images at a time.
        seed: of the transformations and of the choice of images.

    Raises:
        UserError: a number outside its range.
    """

    repeats: int = 5
    images: int | None = None
    batch_size: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        """Reject what cannot be scored."""
        for name, least in (("repeats", 1), ("images", 2), ("batch_size", 1), ("seed", 0)):
            self.expect_least(name, least)

    def expect_least(self, name: str, least: int) -> None:
        """Reject a number that is too small.

        Raises:
            UserError: names it as an option.
        """
        value = getattr(self, name)
        if value is not None and value < least:
            raise UserError(f"--{name.replace('_', '-')}: expected at least {least}, got {value}")

    def chosen(self, data: ImageData) -> Tensor:
        """Indices of the test images to score, int64, ascending.

        Raises:
            UserError: fewer images than asked for, or than a score needs.
        """
        if len(data.test) < 2:
            raise UserError(f"{data.name} has {len(data.test)} test image; a score compares at least 2")
        return choose_images(data, self.images, self.seed)
