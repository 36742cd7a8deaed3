"""Summaries of invariance scores: what a box plot draws, and how sure a median is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import stats

RESAMPLES = 2000
CONFIDENCE = 0.95


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


@dataclass(frozen=True)
class LayerSummary:
    """The distribution of the scores of a layer over images and transformations.

    Attributes:
        n: number of scores, images x repeats.
        median: with its interval over images.
        box: its box plot.
        mean: arithmetic mean.
    """

    n: int
    median: Estimate
    box: Box
    mean: float


def scored_layers(sigma: Mapping[str, np.ndarray]) -> list[str]:
    """Layers with a score for every image: not those that are constant, which Eq. 2 leaves undefined."""
    return [layer for layer, scores in sigma.items() if np.isfinite(scores).all()]


def resampled_medians(sigma: Mapping[str, np.ndarray], seed: int, resamples: int = RESAMPLES) -> dict[str, np.ndarray]:
    """Bootstrap distribution of each layer's median.

    Images are drawn with replacement, each with all its transformations, as the scores of one image are not
    independent. One draw serves all layers, and equal ``seed`` and N draw the same images, so that differences between
    layers and between runs scored on the same images are paired.

    Args:
        sigma: layer -> ``(repeats, N)`` finite scores.
        seed: of the draws.
        resamples: number of draws.

    Returns:
        layer -> ``(resamples,)`` medians.
    """
    if not sigma:
        return {}
    layers = [_Ranks(scores) for scores in sigma.values()]
    n_images = next(iter(sigma.values())).shape[1]

    def medians(drawn: np.ndarray, axis: int = -1) -> np.ndarray:
        """``(resamples, N)`` indices of images to ``(L, resamples)`` medians."""
        shifted = drawn * len(drawn) + np.arange(len(drawn))[:, None]
        counted = np.bincount(shifted.ravel(), minlength=len(drawn) * n_images)
        times_drawn = counted.reshape(n_images, len(drawn)).astype(np.float64)
        return np.stack([layer.medians(times_drawn) for layer in layers])

    result = stats.bootstrap(
        (np.arange(n_images),),
        medians,
        vectorized=True,
        axis=-1,
        n_resamples=resamples,
        batch=64,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return dict(zip(sigma, result.bootstrap_distribution, strict=True))


class _Ranks:
    """The scores of a layer in order, from which the median of a resample is a count.

    A resample draws the score at each rank some number of times; its median is where these numbers have added up to
    half. That place is hardly ever far from the middle rank, so the sum is taken over everything below a window around
    the middle at once (a matrix product), and rank by rank in the window only. Where the place lies outside, all ranks
    are gone through.

    Args:
        scores: ``(repeats, N)`` finite scores of a layer.
    """

    def __init__(self, scores: np.ndarray) -> None:
        repeats, n_images = scores.shape
        order = np.argsort(scores, axis=None)
        self._ranked = scores.ravel()[order]
        self._image_at_rank = order % n_images
        self._middle = np.array([(scores.size - 1) // 2, scores.size // 2])
        # standard deviation over resamples of how many scores up to the middle rank are drawn
        spread = np.bincount(self._image_at_rank[: self._middle[1]], minlength=n_images).std() * n_images**0.5
        self._first = max(0, int(scores.size / 2 - 4 * spread) - repeats)
        self._last = min(scores.size, int(scores.size / 2 + 4 * spread) + repeats)
        self._below = np.bincount(self._image_at_rank[: self._first], minlength=n_images).astype(np.float64)

    def medians(self, times_drawn: np.ndarray) -> np.ndarray:
        """Medians of resamples, ``(R,)``, from how often each image was drawn, ``(N, R)`` float64."""
        window = times_drawn[self._image_at_rank[self._first : self._last]]
        counts = np.cumsum(window, axis=0) + self._below @ times_drawn  # whole numbers, exact in float64
        places = self._first + np.stack([np.count_nonzero(counts <= middle, axis=0) for middle in self._middle])
        inside = (counts[0] <= self._middle[0]) & (counts[-1] > self._middle[1])
        for column in np.flatnonzero(~inside):
            counts_of_all = np.cumsum(times_drawn[self._image_at_rank, column])
            places[:, column] = np.searchsorted(counts_of_all, self._middle, side="right")
        return self._ranked[places].mean(axis=0)


def estimate(value: float, distribution: np.ndarray) -> Estimate:
    """A value with the percentile interval of its bootstrap distribution."""
    low, high = np.percentile(distribution, [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)])
    return Estimate(float(value), float(low), float(high))


def box(scores: np.ndarray) -> Box:
    """What a box plot draws of finite scores of any shape."""
    q1, median, q3 = (float(value) for value in np.percentile(scores, [25, 50, 75]))
    reach = 1.5 * (q3 - q1)
    return Box(
        q1=q1,
        median=median,
        q3=q3,
        # among few scores an interpolated quartile may lie beyond the last score within reach
        whisker_low=min(q1, float(scores[scores >= q1 - reach].min())),
        whisker_high=max(q3, float(scores[scores <= q3 + reach].max())),
    )


def summarize(scores: np.ndarray, resampled: np.ndarray) -> LayerSummary:
    """Summary of a layer.

    Args:
        scores: ``(repeats, N)`` finite scores.
        resampled: ``(resamples,)`` medians from :func:`resampled_medians`.
    """
    drawn = box(scores)
    return LayerSummary(scores.size, estimate(drawn.median, resampled), drawn, float(scores.mean()))


def difference(
    one: LayerSummary, other: LayerSummary, resampled_one: np.ndarray, resampled_other: np.ndarray
) -> Estimate:
    """Median of ``other`` minus median of ``one``, with the interval over images that both were scored on."""
    return estimate(other.median.value - one.median.value, resampled_other - resampled_one)


def proportion(share: float, n: int) -> Estimate:
    """A share of n with its Wilson interval."""
    interval = stats.binomtest(round(share * n), n).proportion_ci(CONFIDENCE, method="wilson")
    return Estimate(share, float(interval.low), float(interval.high))
