"""Summaries of invariance scores, and how sure a median is: a bootstrap over images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

from dainv.summaries import Box, Estimate, box

RESAMPLES = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class LayerSummary:
    """The distribution of the scores of a layer over images and transformations.

    Attributes:
        n: number of scores, images x repeats.
        median: with its interval over images.
        box: its box plot.
        mean: arithmetic mean.
        resampled: ``(resamples,)`` bootstrap distribution of the median.
    """

    n: int
    median: Estimate
    box: Box
    mean: float
    resampled: np.ndarray


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
    n_images = next(iter(sigma.values())).shape[1]
    ranked = {layer: np.sort(scores, axis=None) for layer, scores in sigma.items()}
    image_at_rank = {layer: np.argsort(scores, axis=None) % n_images for layer, scores in sigma.items()}
    medians = {layer: np.empty(resamples) for layer in sigma}
    rng = np.random.default_rng(seed)
    for resample in range(resamples):
        times_drawn = np.bincount(rng.integers(0, n_images, n_images), minlength=n_images).astype(np.int32)
        for layer in sigma:
            counts = np.cumsum(times_drawn[image_at_rank[layer]], dtype=np.int32)  # of scores drawn up to each rank
            middle = np.searchsorted(counts, [(counts[-1] - 1) // 2, counts[-1] // 2], side="right")
            medians[layer][resample] = ranked[layer][middle].mean()
    return medians


def estimate(value: float, distribution: np.ndarray) -> Estimate:
    """A value with the percentile interval of its bootstrap distribution."""
    low, high = np.percentile(distribution, [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)])
    return Estimate(float(value), float(low), float(high))


def summarize(scores: np.ndarray, resampled: np.ndarray) -> LayerSummary:
    """Summary of a layer.

    Args:
        scores: ``(repeats, N)`` finite scores.
        resampled: ``(resamples,)`` medians from :func:`resampled_medians`.
    """
    drawn = box(scores)
    return LayerSummary(scores.size, estimate(drawn.median, resampled), drawn, float(scores.mean()), resampled)


def difference(one: LayerSummary, other: LayerSummary) -> Estimate:
    """Median of ``other`` minus median of ``one``, with the interval over images that both were scored on."""
    return estimate(other.median.value - one.median.value, other.resampled - one.resampled)


def proportion(share: float, n: int) -> Estimate:
    """A share of n with its Wilson interval."""
    interval = stats.binomtest(round(share * n), n).proportion_ci(CONFIDENCE, method="wilson")
    return Estimate(share, float(interval.low), float(interval.high))
