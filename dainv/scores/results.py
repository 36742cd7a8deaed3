"""From distances to measures: sigma of Eq. 2, its pooled form, class-wise invariance, variance ratios."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from dainv.scores.engine import Distances
from dainv.scores.variance import VarianceRatio

DEFINITIONS = {
    "sigma": "1 - d(x, G(x)) / mean_j d(x, x_j) of Eq. 2; d is the mean squared difference of two images' activations, "
    "the mean is over all images scored, x itself included",
    "n": "number of scores: images x repeats",
}
NOT_FINITE, CONSTANT = "infinite or NaN activations", "the same for all images"  # why a layer has no score


def by_reason(unscored: Mapping[str, str]) -> dict[str, list[str]]:
    """Why layers have no score -> these layers."""
    return {why: [one for one in unscored if unscored[one] == why] for why in dict.fromkeys(unscored.values())}


@dataclass(frozen=True)
class InvarianceScores:
    """Invariance scores of a model.

    Attributes:
        sigma: layer -> ``(repeats, N)`` float64 array of Eq. 2. NaN where the layer is the same for all images,
            but for rounding.
        dimensions: layer -> D, the number of features.
        unscored: layers without a score -> why not.
    """

    sigma: Mapping[str, np.ndarray]
    dimensions: Mapping[str, int]
    unscored: Mapping[str, str] = field(default_factory=dict)

    @property
    def layers(self) -> list[str]:
        """Layer names, the pixels first."""
        return list(self.sigma)


@dataclass(frozen=True)
class ClassInvariance:
    """Class-wise invariance of a layer: 1 - mean distance within a class / mean distance of all pairs.

    Means are over pairs of distinct images. 1 means that all images of the class are one point to the layer, 0 that
    they are as far apart as any two images.

    Attributes:
        by_class: ``(classes,)``, NaN for a class of one image.
        overall: over all pairs of one class together; 1 - this is Eq. 3 with class labels as groups.
    """

    by_class: np.ndarray
    overall: float


class NetworkScores:
    """Everything that two passes over the images say about a network.

    Args:
        distances: the sums.
        labels: ``(N,)`` class of each image, if there are labels.

    Attributes:
        dimensions: layer -> D, the pixels first.
        transformations: names in the order they were given.
        labels: ``(N,)``, or None.
        classes: the labels that occur, ascending.
        notes: what is good to know, for people.
    """

    def __init__(self, distances: Distances, labels: np.ndarray | None = None) -> None:
        self._distances = distances
        self.dimensions: Mapping[str, int] = distances.dimensions
        self.transformations = list(distances.to_transformed)
        self.labels = labels
        self.classes = [] if labels is None else np.unique(labels).tolist()
        self.notes = list(distances.notes)

    @property
    def layers(self) -> list[str]:
        """Layer names, the pixels first."""
        return list(self.dimensions)

    @property
    def n_images(self) -> int:
        """N."""
        return len(next(iter(self._distances.to_mean.values())))

    @property
    def unscored(self) -> dict[str, str]:
        """Layers without a score -> why not."""
        reasons = {}
        for layer, to_mean in self._distances.to_mean.items():
            if layer in self._distances.not_finite or not np.isfinite(to_mean).all():
                reasons[layer] = NOT_FINITE
            elif layer in self._distances.constant:
                reasons[layer] = CONSTANT
        return reasons

    def _mean_distances(self, layer: str) -> np.ndarray:
        """``(N,)`` mean over j of the summed squared differences of x_i and x_j; NaN where all are equal."""
        to_mean = self._distances.to_mean[layer]
        means = to_mean + to_mean.mean()  # mean_j |f_i - f_j|^2 = |f_i - m|^2 + mean_j |f_j - m|^2
        if layer in self.unscored:
            return np.full_like(means, np.nan)
        return means

    def scores(self, transformation: str) -> InvarianceScores:
        """Eq. 2 for every image, repeat and layer.

        Args:
            transformation: one of :attr:`transformations`.
        """
        found = self._distances.to_transformed[transformation]
        sigma = {layer: 1 - values / self._mean_distances(layer) for layer, values in found.items()}
        return InvarianceScores(sigma, self.dimensions, self.unscored)

    def pooled(self, transformation: str) -> dict[str, float]:
        """Layer -> 1 - mean of all distances to transformed selves / mean of all distances between images.

        Where Eq. 2 takes a ratio for each image, this is a ratio of means: no image with a small denominator has the
        say. Means are over all pairs (i, j), i = j included, as in Eq. 2.
        """
        found = self._distances.to_transformed[transformation]
        return {layer: float(1 - values.mean() / self._mean_distances(layer).mean()) for layer, values in found.items()}

    def class_invariance(self) -> dict[str, ClassInvariance]:
        """Layer -> class-wise invariance.

        Raises:
            ValueError: there are no labels.
        """
        if self.labels is None:
            raise ValueError("class_invariance: the images were scored without labels")
        _, numbers, counts = np.unique(self.labels, return_inverse=True, return_counts=True)
        result = {}
        for layer, to_mean in self._distances.to_mean.items():
            squares = np.bincount(numbers, weights=to_mean)
            within = np.maximum(0, squares - self._distances.class_norms[layer] / counts)
            total = np.nan if layer in self.unscored else to_mean.sum() / (self.n_images - 1)
            with np.errstate(invalid="ignore", divide="ignore"):
                # over ordered pairs of distinct members, n (n - 1) of them, squared distances sum up to 2 n SS
                by_class = 1 - within / (counts - 1.0) / total
                overall = 1 - (counts * within).sum() / (counts * (counts - 1.0)).sum() / total
            by_class[counts < 2] = np.nan
            overall = overall if (counts > 1).any() else np.nan
            result[layer] = ClassInvariance(by_class, float(overall))
        return result

    def variance_ratios(self, transformation: str) -> dict[str, VarianceRatio]:
        """Layer -> variance over transformations / variance over samples; NaN for layers without a score.

        Raises:
            ValueError: their sums were not asked for.
        """
        if not self._distances.variances:
            raise ValueError("variance_ratios: score with variances=True")
        none = VarianceRatio(np.nan, np.nan)
        found = self._distances.variances[transformation]
        return {layer: none if layer in self.unscored else ratio for layer, ratio in found.items()}
