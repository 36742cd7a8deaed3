"""Which source images make up which batch."""

from __future__ import annotations

import torch
from torch import Tensor

from dainv.errors import UserError


class SourceSampler:
    """Which source images make up each batch: K a step, every image once a pass, each pass in a new order.

    The order follows from the seed and the step alone, so there is no state to save: a resumed run asks for the same
    step and gets the same images. Where K does not divide the number of images, the last few of a pass are left out
    (others each time), so that all batches have K images.

    Args:
        n_images: images in the training set.
        per_step: K.
        seed: of the order.

    Raises:
        UserError: fewer images than a batch needs.
    """

    def __init__(self, n_images: int, per_step: int, seed: int) -> None:
        if n_images < per_step:
            raise UserError(f"a batch of {per_step} source images cannot be drawn from {n_images} training images")
        self.n_images, self.per_step, self.seed = n_images, per_step, seed
        self._pass, self._order = -1, torch.empty(0, dtype=torch.int64)

    def indices(self, step: int) -> Tensor:
        """``(K,)`` int64 indices of the source images of a step, counted from 0."""
        data_pass, place = divmod(step, self.n_images // self.per_step)
        if data_pass != self._pass:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + data_pass)
            self._pass, self._order = data_pass, torch.randperm(self.n_images, generator=generator)
        return self._order[place * self.per_step : (place + 1) * self.per_step]
