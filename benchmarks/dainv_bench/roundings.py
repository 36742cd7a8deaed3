"""What floating point may do to the numbers of a method, and the refusal of one that is further off than that."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from dainv.errors import UserError

FLOAT32 = 2.0**-24  # the largest relative error of one rounding

# Sums of squares of deviations do not cancel: the rounding of a mean shifts a group as a whole and counts only
# squared. What is left is the adding up of some 10^5 positive terms to a partial sum. Seen: up to 50 roundings.
LOSS_ROUNDINGS = 160
# The Gram identity forms a distance as the difference of squares that are kappa times as large, so kappa roundings come
# on top. Seen: 0.6 kappa in a loss, where they partly average out, 2.5 kappa in a gradient, where they add up over the
# batch. kappa is near 10 for All-CNN-C as dainv initialises it, 10^6 with torch's defaults.
LOSS_PER_KAPPA = 4
GRADIENT_PER_KAPPA = 16


def kappa(rows: Tensor) -> float:
    """Sum of squares of ``(n, D)`` activations over that of deviations from the mean; not finite without any."""
    exact = rows.detach().double()
    return float(exact.square().sum() / (exact - exact.mean(0)).square().sum())


def refuse_dead_layers(kappas: Mapping[str, float]) -> None:
    """Nothing can be compared where a layer is the same for all samples.

    Args:
        kappas: layer -> :func:`kappa` of its activations.

    Raises:
        UserError: there is such a layer.
    """
    for layer, value in kappas.items():
        if not math.isfinite(value):
            raise UserError(f"nothing timed: {layer} is dead at this initialisation; try another --seed or --width")


def refuse_beyond(bound: float, error: float, who: str, where: str, what: str) -> None:
    """Nothing is timed where somebody computes something else.

    Args:
        bound: what the error may be.
        error: relative.
        who: is off.
        where: at which layer.
        what: of it.

    Raises:
        UserError: the error is larger, or NaN.
    """
    if not error <= bound:
        raise UserError(
            f"nothing timed: {who} disagrees at {where}: {what} is off by {error:.1e}, at most {bound:.1e} expected"
        )
