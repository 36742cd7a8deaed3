"""G of Eq. 2, drawn anew for every image and repeat and yet the same whenever work is continued or dealt out."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dainv.augment import Augmentation
from dainv.errors import UserError, is_lack_of_memory
from dainv.image_checks import RangeCheck
from dainv.models.foreign import blame
from dainv.scores.images import placed

Transform = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Transformation:
    """A transformation, the repeats of it and where its scores stand.

    Attributes:
        name: what the user calls it.
        transform: from a batch of images to a batch of the same shape.
        repeats: times each image is transformed.
    """

    name: str
    transform: Transform
    repeats: int

    @property
    def title(self) -> str:
        """In a message; the only one of ``invariance_scores`` has no name of its own."""
        return self.name if self.name == "transform" else f"transform {self.name}"


class Draws:
    """One transformation with all that is random about it.

    The parameters of an :class:`~dainv.augment.Augmentation` are drawn for all images at once, so that the batch size
    changes nothing. Any other callable draws for itself: torch's, NumPy's and Python's global generators are seeded for
    each batch and repeat, and put back.

    Args:
        transformation: what to draw.
        indices: ``(n,)`` places in the whole set of the images that are transformed here.
        n_images: of the whole set.
        seed: of the draws.
        device: where the images are.
    """

    def __init__(
        self, transformation: Transformation, indices: Tensor, n_images: int, seed: int, device: torch.device
    ) -> None:
        self.transformation = transformation
        self._seed = seed
        self._device = device
        self._range = RangeCheck(device)
        self._parameters: list[Tensor] = []
        if isinstance(transform := transformation.transform, Augmentation):
            generator = torch.Generator().manual_seed(seed)
            for _ in range(transformation.repeats):
                self._parameters.append(transform.parameters(n_images, generator)[indices].to(device))

    def __call__(self, batch: Tensor, repeat: int, start: int, first_index: int) -> Tensor:
        """The batch, transformed.

        Args:
            batch: ``(n, C, H, W)`` images.
            repeat: counted from 0.
            start: place of its first image among those that are transformed here.
            first_index: place of its first image in the whole set.

        Raises:
            ValueError: the transformation gives no tensor, another shape or another dtype.
            UserError: it fails.
        """
        transform = self.transformation.transform
        if isinstance(transform, Augmentation):
            return placed(transform.apply(batch, self._parameters[repeat][start : start + len(batch)]), self._device)
        with _seeded((self._seed, repeat, first_index), self._device):
            out = self._transformed(batch.clone())  # it may work in place
        what = self.transformation.title
        if not isinstance(out, Tensor):
            raise ValueError(f"{what}: expected a tensor back, got {type(out).__name__}")
        if out.shape != batch.shape:
            raise ValueError(f"{what}: expected the shape it was given, {tuple(batch.shape)}, got {tuple(out.shape)}")
        if out.dtype != batch.dtype:
            raise ValueError(f"{what}: expected the dtype it was given, {batch.dtype}, got {out.dtype}")
        out = placed(out, self._device)
        self._range.add(out)
        return out

    def _transformed(self, batch: Tensor) -> Any:
        try:
            return self.transformation.transform(batch)
        except Exception as error:  # the user's code
            if is_lack_of_memory(error):
                raise
            raise UserError(f"{self.transformation.title}: {blame(error)}") from error

    def outside(self) -> str | None:
        """None where all images stayed in [0, 1] so far; else what came."""
        return self._range.outside()


@contextmanager
def _seeded(key: tuple[int, ...], device: torch.device) -> Iterator[None]:
    seed = int(np.random.SeedSequence(key).generate_state(1)[0])
    of_numpy, of_python = np.random.get_state(), random.getstate()
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            np.random.seed(seed)
            random.seed(seed)
            yield
    finally:
        np.random.set_state(of_numpy)
        random.setstate(of_python)
