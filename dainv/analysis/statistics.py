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


@dataclass(frozen=True)
class LayerSummary:
    """The distribution of the scores of a layer over images and transformations.

    Attributes:
        n: number of scores, images x repeats.
        median: with its interval over images.
        q1: first quartile.
        q3: third quartile.
        whisker_low: lowest score within 1.5 interquartile ranges of the box.
        whisker_high: highest score within that distance.
        mean: arithmetic mean.
    """

    n: int
    median: Estimate
    q1: float
    q3: float
    whisker_low: float
    whisker_high: float
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
    repeats, n_images = next(iter(sigma.values())).shape
    # Sorting once turns the median of a resample into a count: whose score is at each rank, and how often is it drawn?
    order = np.stack([np.argsort(scores, axis=None) for scores in sigma.values()])
    ranked = np.stack([np.sort(scores, axis=None) for scores in sigma.values()])
    image_at_rank = order % n_images
    middle = np.array([(repeats * n_images - 1) // 2, repeats * n_images // 2])

    def medians(drawn: np.ndarray, axis: int = -1) -> np.ndarray:
        """``(resamples, N)`` indices of images to ``(L, resamples)`` medians."""
        result = np.empty((len(ranked), len(drawn)))
        for column, images in enumerate(drawn):
            times_drawn = np.bincount(images, minlength=n_images)
            for row, images_of_layer in enumerate(image_at_rank):
                scores_so_far = np.cumsum(times_drawn[images_of_layer])
                result[row, column] = ranked[row, np.searchsorted(scores_so_far, middle, side="right")].mean()
        return result

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


def _estimate(value: float, distribution: np.ndarray) -> Estimate:
    low, high = np.percentile(distribution, [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)])
    return Estimate(float(value), float(low), float(high))


def summarize(scores: np.ndarray, resampled: np.ndarray) -> LayerSummary:
    """Summary of a layer.

    Args:
        scores: ``(repeats, N)`` finite scores.
        resampled: ``(resamples,)`` medians from :func:`resampled_medians`.
    """
    q1, median, q3 = (float(value) for value in np.percentile(scores, [25, 50, 75]))
    reach = 1.5 * (q3 - q1)
    return LayerSummary(
        n=scores.size,
        median=_estimate(median, resampled),
        q1=q1,
        q3=q3,
        # among few scores an interpolated quartile may lie beyond the last score within reach
        whisker_low=min(q1, float(scores[scores >= q1 - reach].min())),
        whisker_high=max(q3, float(scores[scores <= q3 + reach].max())),
        mean=float(scores.mean()),
    )


def difference(
    one: LayerSummary, other: LayerSummary, resampled_one: np.ndarray, resampled_other: np.ndarray
) -> Estimate:
    """Median of ``other`` minus median of ``one``, with the interval over images that both were scored on."""
    return _estimate(other.median.value - one.median.value, resampled_other - resampled_one)


def proportion(share: float, n: int) -> Estimate:
    """A share of n with its Wilson interval."""
    interval = stats.binomtest(round(share * n), n).proportion_ci(CONFIDENCE, method="wilson")
    return Estimate(share, float(interval.low), float(interval.high))
