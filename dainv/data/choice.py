"""Which test images something is measured on."""

from __future__ import annotations

import torch
from torch import Tensor

from dainv.data.splits import ImageData
from dainv.errors import UserError


def choose_images(data: ImageData, number: int | None, seed: int) -> Tensor:
    """Indices of test images, int64, ascending.

    A part is drawn at random: data sets are often sorted by class, and the first images would be of one class.

    Args:
        data: where they are.
        number: how many to draw; all if not given.
        seed: of the draw.

    Raises:
        UserError: more images than there are.
    """
    available = len(data.test)
    if number is not None and number > available:
        raise UserError(f"--images {number}: {data.name} has {available} test images")
    return torch.randperm(available, generator=torch.Generator().manual_seed(seed))[:number].sort().values
