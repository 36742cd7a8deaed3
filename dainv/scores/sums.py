"""The two sums over activations that all measures are made of, taken in blocks that a processor's cache holds.

Both are over deviations, never over squares of the activations themselves: a mean that all images share costs no
digits. Sums within a block are float32 (float64 for float64 activations), sums of blocks float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

# Elements of a block. On a CPU a difference of this many float32 stays in the cache until it has been summed; on a GPU
# what counts is few launches, and that the difference does not take much memory.
_BLOCK = {"cpu": 1 << 17}
_BLOCK_ELSEWHERE = 1 << 28


def _block(rows: Tensor) -> int:
    return _BLOCK.get(rows.device.type, _BLOCK_ELSEWHERE)


class Centre(NamedTuple):
    """A mean in two parts, each rounded to what it is itself: one row, and what the mean is above that row.

    Near 10,000 a float32 is off by half a thousandth, which would be in every deviation from the mean.
    """

    reference: Tensor  # (D,)
    offset: Tensor  # (D,)


def _difference(a: Tensor, b: Tensor | Centre, rows: slice, columns: slice) -> Tensor:
    """``a - b`` of some rows and columns in float32 or better, as a new tensor."""
    part = a[rows, columns]
    if part.dtype in (torch.float16, torch.bfloat16):
        part = part.float()
    if isinstance(b, Centre):
        return (part - b.reference[columns]).sub_(b.offset[columns])
    return part - (b[columns] if b.ndim == 1 else b[rows, columns])


def _parts(length: int, size: int) -> Iterator[slice]:
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))


def squared_distances(rows: Tensor, others: Tensor | Centre) -> Tensor:
    """Squared Euclidean distance of each row to another one.

    Args:
        rows: ``(n, D)`` floating point.
        others: ``(n, D)``; or ``(D,)`` or a mean, for all rows.

    Returns:
        ``(n,)`` float64, on the rows' device.
    """
    n, dimension = rows.shape
    width = min(dimension, _block(rows))
    height = max(1, _block(rows) // width)
    sums = torch.zeros(n, dtype=torch.float64, device=rows.device)
    for columns in _parts(dimension, width):
        for part in _parts(n, height):
            sums[part] += _difference(rows, others, part, columns).square_().sum(1)
    return sums


def column_sums(rows: Tensor, reference: Tensor | Centre, powers: int = 1) -> Tensor:
    """Sum over the rows of what each is above a reference.

    Args:
        rows: ``(n, D)`` floating point.
        reference: ``(D,)`` near the rows, a mean, or ``(n, D)``.
        powers: 2 for the sums of squares too.

    Returns:
        ``(powers, D)`` float64, on the rows' device: the sums, and those of squares.
    """
    n, dimension = rows.shape
    sums = torch.empty(powers, dimension, dtype=torch.float64, device=rows.device)
    for columns in _parts(dimension, max(1, _block(rows) // n)):
        deviations = _difference(rows, reference, slice(None), columns)
        sums[0, columns] = deviations.sum(0).double()
        if powers == 2:
            sums[1, columns] = deviations.square_().sum(0).double()
    return sums
