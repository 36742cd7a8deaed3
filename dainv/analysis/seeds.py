"""What several seeds say: means over runs with the t interval that so few runs allow."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from dainv.analysis.statistics import CONFIDENCE


class SeedMean(NamedTuple):
    """A mean over the runs of an arm.

    Attributes:
        value: the mean.
        low: lower end of its t interval; None for one run, which has no spread.
        high: upper end.
        least: smallest value of a run.
        most: largest.
        n: number of runs.
    """

    value: float
    low: float | None
    high: float | None
    least: float
    most: float
    n: int

    @property
    def interval(self) -> tuple[float, float]:
        """Ends of the interval; the value itself where there is none."""
        return self.value if self.low is None else self.low, self.value if self.high is None else self.high

    def within(self, lowest: float, highest: float) -> SeedMean:
        """The same where no value can lie below or above these: t intervals know nothing of that."""
        if self.low is None or self.high is None:
            return self
        return self._replace(low=max(lowest, self.low), high=min(highest, self.high))


class SeedDifference(NamedTuple):
    """How much higher the mean of one arm is than that of another, over seeds.

    Attributes:
        value: difference of the means.
        low: lower end of its t interval; None where an arm has one run, or where the differences have no spread, as
            accuracies over few images may.
        high: upper end.
        p: of the t test, two-sided; None where there is no interval.
        p_holm: p after Holm's correction over the layers tested together.
        paired: runs of the same seed were subtracted from each other; else Welch's test.
        n: runs of the reference and of the other arm; equal to the pairs where paired.
        same_sign: pairs in which the difference has the sign of ``value``; of all pairs of runs where not paired.
        pairs: number of these pairs.
    """

    value: float
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    paired: bool
    n: tuple[int, int]
    same_sign: int
    pairs: int

    @property
    def sign(self) -> int:
        """1 or -1 where the t interval leaves out 0 and p after correction is below 0.05, else 0."""
        return int(np.sign(self.value)) if self.p_holm is not None and self.p_holm < 1 - CONFIDENCE else 0

    @property
    def least_rank_p(self) -> float:
        """Smallest p that a test without assumptions could reach with so many runs, two-sided.

        All signs alike among n pairs has probability 2 / 2^n; all of one arm above all of the other 2 / C(n1 + n2, n1).
        """
        one, other = self.n
        return min(1.0, 2 / 2**one if self.paired else 2 / math.comb(one + other, one))


def seed_mean(values: Sequence[float]) -> SeedMean:
    """Mean of the runs of an arm, with the t interval for n - 1 degrees of freedom."""
    found = np.asarray(values, dtype=float)
    n = len(found)
    low = high = None
    if n > 1:
        reach = stats.t.ppf(0.5 + CONFIDENCE / 2, n - 1) * found.std(ddof=1) / n**0.5
        low, high = float(found.mean() - reach), float(found.mean() + reach)
    return SeedMean(float(found.mean()), low, high, float(found.min()), float(found.max()), n)


def seed_difference(one: Sequence[float], other: Sequence[float], *, paired: bool) -> SeedDifference:
    """Mean of ``other`` minus mean of ``one``, by the paired t test or Welch's.

    Args:
        one: a value a run of the reference.
        other: of the other arm; in the order of the same seeds where paired.
        paired: subtract run from run.
    """
    a, b = np.asarray(one, dtype=float), np.asarray(other, dtype=float)
    value = float(b.mean() - a.mean())
    each = b - a if paired else np.subtract.outer(b, a).ravel()
    same_sign = int(np.sum(np.sign(each) == np.sign(value)))
    p, low, high = _t_test(a, b, paired) if min(len(a), len(b)) > 1 else (None, None, None)
    return SeedDifference(value, low, high, p, None, paired, (len(a), len(b)), same_sign, each.size)


def _t_test(a: np.ndarray, b: np.ndarray, paired: bool) -> tuple[float | None, float | None, float | None]:
    """P and the ends of the interval of mean(b) - mean(a); without a spread there is no such test."""
    spread = float((b - a).std(ddof=1) if paired else np.hypot(a.std(ddof=1), b.std(ddof=1)))
    if spread <= 1e-9:
        return None, None, None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Precision loss")  # runs of one arm alike: no spread is its spread
        found = stats.ttest_rel(b, a) if paired else stats.ttest_ind(b, a, equal_var=False)
    interval = found.confidence_interval(CONFIDENCE)
    return float(found.pvalue), float(interval.low), float(interval.high)
