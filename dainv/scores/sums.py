"""The two sums over activations that all measures are made of, taken in blocks that a processor's cache holds.

Both are over deviations, never over squares of the activations themselves: a mean that all images share costs no
digits. A sum over a row, or over the rows of a batch, is float32 (float64 for float64 activations); sums of those are
float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

# Elements of a block. On a CPU the squares of this many float32 stay in a cache until they have been summed, and calls
# are few; on a GPU what counts is few launches, and that the squares do not take much memory.
_BLOCK = {"cpu": 1 << 18}
_BLOCK_ELSEWHERE = 1 << 28


def _block(rows: Tensor) -> int:
    return _BLOCK.get(rows.device.type, _BLOCK_ELSEWHERE)


def rounding(dtype: torch.dtype) -> float:
    """How far apart equal images may come out of a layer, as root mean squares of the difference and the activations.

    The order in which a network adds up depends on the size of the batch. Seen are up to 2 roundings of float32 in
    networks of 121 layers; float16 and bfloat16 are rounded from float32, so that few activations differ, by one unit.
    """
    one = torch.finfo(dtype).eps
    return one if dtype in (torch.float16, torch.bfloat16) else 16 * one


class Centre(NamedTuple):
    """A mean in two parts, each rounded to what it is itself: one row, and what the mean is above that row.

    Near 10,000 a float32 is off by half a thousandth, which would be in every deviation from the mean.
    """

    reference: Tensor  # (D,)
    offset: Tensor  # (D,)


def in_float32(rows: Tensor) -> Tensor:
    """Or in float64, where they are that."""
    return rows if rows.dtype == torch.float64 else rows.float()


def _pairs(rows: Tensor, others: Tensor | Centre) -> Iterator[tuple[Tensor, Tensor]]:
    """Some rows after the other, in float32 or better, and what they are to be compared with."""
    height = max(1, _block(rows) // rows.shape[1])
    for start in range(0, len(rows), height):
        part = in_float32(rows[start : start + height])
        if isinstance(others, Centre):
            yield part - others.reference, others.offset.expand_as(part)
        else:
            yield part, in_float32(others[start : start + height])


def squared_distances(rows: Tensor, others: Tensor | Centre) -> Tensor:
    """Squared Euclidean distance of each row to another one.

    Args:
        rows: ``(n, D)`` floating point.
        others: ``(n, D)``; or a mean, for all rows.

    Returns:
        ``(n,)`` float64, on the rows' device.
    """
    # One pass makes the squares and one sums them; a difference of its own would be a third.
    sums = [functional.mse_loss(*pair, reduction="none").sum(1) for pair in _pairs(rows, others)]
    return torch.cat(sums).double()


def column_sums(rows: Tensor, reference: Tensor | Centre, powers: int = 1) -> Tensor:
    """Sum over the rows of what each is above a reference.

    Args:
        rows: ``(n, D)`` floating point.
        reference: ``(D,)`` near the rows, or a mean.
        powers: 2 for the sums of squares too, both then in float64: they are there to be subtracted.

    Returns:
        ``(powers, D)`` float64, on the rows' device: the sums, and those of squares.
    """
    n, dimension = rows.shape
    sums = torch.empty(powers, dimension, dtype=torch.float64, device=rows.device)
    width = max(1, _block(rows) // n)
    for start in range(0, dimension, width):
        columns = slice(start, start + width)
        part = in_float32(rows[:, columns])
        if isinstance(reference, Centre):
            deviations = (part - reference.reference[columns]).sub_(reference.offset[columns])
        else:
            deviations = part - reference[columns]
        if powers == 2:
            deviations = deviations.double()
            sums[1, columns] = deviations.square().sum(0)
        sums[0, columns] = deviations.sum(0)
    return sums
