"""How a cost grows: the exponent p of cost = c x^p, by least squares of logarithms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import numpy.typing as npt

from dainv_bench.statistics import middle_of

_RESAMPLES = 2_000


class Growth(TypedDict):
    """cost = milliseconds_at_one * x^exponent through the medians, and the exponent's 95 % bootstrap interval."""

    exponent: float
    low: float
    high: float
    milliseconds_at_one: float


def fit_growth(values: Sequence[float], samples: Sequence[Sequence[float]], seed: int = 0) -> Growth | None:
    """Fit the medians; resample the rounds for the interval, the same rounds at all values, as they were measured.

    Args:
        values: x, positive.
        samples: at each value one positive cost a round.
        seed: of the resampling; the same samples give the same interval.

    Returns:
        The fit; None through fewer than two values.
    """
    if len(values) < 2:
        return None
    costs = np.asarray(samples, dtype=np.float64)
    x = np.log(np.asarray(values, dtype=np.float64))
    slope, intercept = _line(x, np.log(np.median(costs, axis=1))[:, None])
    rounds = costs.shape[1]
    drawn = np.random.default_rng(seed).integers(rounds, size=(_RESAMPLES, rounds))
    slopes, _ = _line(x, np.log(np.median(costs[:, drawn], axis=2)))
    low, high = middle_of(slopes)
    return Growth(exponent=float(slope[0]), low=low, high=high, milliseconds_at_one=float(np.exp(intercept[0])))


def _line(
    x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Slopes and intercepts of the lines through the columns of y."""
    deviations = x - x.mean()
    slopes = deviations @ y / (deviations @ deviations)
    return slopes, y.mean(axis=0) - slopes * x.mean()
