"""What rounds of alternating measurements say: paired overheads, and how far to trust their median."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import numpy.typing as npt

MINIMUM_ROUNDS = 3  # of fewer, resampling says nothing
_RESAMPLES = 10_000
_RESAMPLES_OF_TWO = 2_000  # a comparison makes hundreds of intervals
_COVERAGE = 0.95


class Interval(TypedDict):
    """A median and its 95 % bootstrap interval."""

    median: float
    low: float
    high: float


def paired_overhead(times: Sequence[float], baseline: Sequence[float]) -> npt.NDArray[np.float64]:
    """How much longer than the baseline of the same round, in percent.

    What slows a machine down slows both, so a ratio within a round varies less than the times do.

    Args:
        times: one time a round.
        baseline: one time a round, same unit, same rounds.
    """
    return 100 * (np.asarray(times, dtype=np.float64) / np.asarray(baseline, dtype=np.float64) - 1)


def middle_of(resampled: npt.NDArray[np.float64]) -> tuple[float, float]:
    """The ends of the range that 95 % of what comes from resampled rounds lies in."""
    low, high = np.quantile(resampled, [(1 - _COVERAGE) / 2, (1 + _COVERAGE) / 2])
    return float(low), float(high)


def median_interval(samples: npt.ArrayLike) -> Interval:
    """The median, and the range that 95 % of the medians of resampled rounds lie in (percentile bootstrap, fixed seed).

    Args:
        samples: one number a round.
    """
    values = np.asarray(samples, dtype=np.float64)
    drawn = np.random.default_rng(0).integers(len(values), size=(_RESAMPLES, len(values)))
    low, high = middle_of(np.median(values[drawn], axis=1))
    return Interval(median=float(np.median(values)), low=low, high=high)


def ratio_interval(samples: npt.ArrayLike, reference: npt.ArrayLike) -> Interval:
    """The ratio of two medians, and its range over resamples of both: for rounds that are not the same.

    Args:
        samples: positive numbers.
        reference: positive numbers, of the same unit; may be more or fewer.
    """
    generator = np.random.default_rng(0)
    medians = []
    for values in (np.asarray(samples, dtype=np.float64), np.asarray(reference, dtype=np.float64)):
        drawn = generator.integers(len(values), size=(_RESAMPLES_OF_TWO, len(values)))
        medians.append((float(np.median(values)), np.median(values[drawn], axis=1)))
    (above, resampled_above), (below, resampled_below) = medians
    low, high = middle_of(resampled_above / resampled_below)
    return Interval(median=above / below, low=low, high=high)


def judge(overhead: Interval, limit: float) -> str:
    """``"within"`` or ``"above"`` where the whole interval lies on that side of the limit, else ``"undecided"``."""
    if overhead["high"] <= limit:
        return "within"
    return "above" if overhead["low"] > limit else "undecided"
