"""Which test images are compared."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dainv.data import ImageData, choose_images
from dainv.errors import UserError


def images_by_class(data: ImageData, number: int | None, seed: int, indices: Sequence[int] = ()) -> Tensor:
    """Indices of test images, int64, class by class.

    Args:
        data: where they are.
        number: how many to draw; all if not given.
        seed: of the draw.
        indices: the images themselves, in this order, instead of a draw.

    Raises:
        UserError: more images than there are, or an index out of range.
    """
    if indices:
        available = len(data.test)
        wrong = [index for index in indices if not 0 <= index < available]
        if wrong:
            raise UserError(f"indices: {data.name} has test images 0 to {available - 1}, not {wrong[0]}")
        return torch.tensor(indices)
    chosen = choose_images(data, number, seed)
    return chosen[data.test.labels[chosen].argsort(stable=True)]
