"""What tables, figures and sentences say of many numbers: an estimate with its interval, quartiles, a box plot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Estimate(NamedTuple):
    """A number and the ends of its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def sign(self) -> int:
        """1 or -1 where the whole interval is above or below 0, else 0."""
        return int(self.low > 0) - int(self.high < 0)


class Box(NamedTuple):
    """A box plot: quartiles, and the last scores within 1.5 interquartile ranges of the box."""

    q1: float
    median: float
    q3: float
    whisker_low: float
    whisker_high: float

    @property
    def drawn(self) -> dict[str, float]:
        """As ``matplotlib.axes.Axes.bxp`` takes it."""
        return dict(zip(("q1", "med", "q3", "whislo", "whishi"), self, strict=True))


def quartiles(values: np.ndarray) -> dict[str, float]:
    """``q1``, ``median`` and ``q3`` of values of any shape; NaN where one of them is NaN."""
    return dict(zip(("q1", "median", "q3"), np.percentile(values, [25, 50, 75]).tolist(), strict=True))


def box(scores: np.ndarray) -> Box:
    """What a box plot draws of finite scores of any shape."""
    q1, median, q3 = quartiles(scores).values()
    reach = 1.5 * (q3 - q1)
    return Box(
        q1=q1,
        median=median,
        q3=q3,
        # among few scores an interpolated quartile may lie beyond the last score within reach
        whisker_low=min(q1, float(scores[scores >= q1 - reach].min())),
        whisker_high=max(q3, float(scores[scores <= q3 + reach].max())),
    )


def mean_box(boxes: Sequence[Box]) -> Box:
    """The mean over runs of each of the five numbers."""
    return Box(*np.mean(boxes, axis=0).tolist())
