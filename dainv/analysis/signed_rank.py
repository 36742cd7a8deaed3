"""Two runs compared image by image: a signed-rank test at each layer, its effect size, and Holm's correction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from scipy import stats

SIGNIFICANCE = 0.05


class PairedTest(NamedTuple):
    """What the images say of a difference between two runs at one layer.

    Attributes:
        images: pairs that differ; equal ones carry no rank and are left out.
        higher: share of the pairs that differ in which the other run's score is the higher one.
        effect: matched-pairs rank-biserial correlation, (W+ - W-) / (W+ + W-) with W the sums of signed ranks; 1 where
            every image scores higher, -1 where every image scores lower, 0 where neither prevails.
        p: of the Wilcoxon signed-rank test, two-sided.
        p_holm: p after Holm's correction over the layers tested together.
    """

    images: int
    higher: float
    effect: float
    p: float
    p_holm: float

    @property
    def sign(self) -> int:
        """1 or -1 where the other run's scores are higher or lower beyond chance, else 0."""
        return int(np.sign(self.effect)) if self.p_holm < SIGNIFICANCE else 0


def holm(p_values: np.ndarray) -> np.ndarray:
    """Holm's step-down correction: the k-th smallest of m values times m - k + 1, never falling, at most 1."""
    m = len(p_values)
    order = np.argsort(p_values)
    corrected = np.minimum(1.0, np.maximum.accumulate(p_values[order] * np.arange(m, 0, -1)))
    result = np.empty(m)
    result[order] = corrected
    return result


def paired_tests(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> dict[str, PairedTest]:
    """Wilcoxon signed-rank tests of ``other`` against ``one`` over images.

    The score of an image is its mean over the transformations: that is what it scores on average over G, whatever the
    number of repeats, where a median of five would be biased by the long lower tail. Between images the test looks at
    ranks only, so that no single image decides.

    Args:
        one: layer -> ``(repeats, N)`` finite scores.
        other: the same layers, of the same images and transformations.

    Returns:
        layer -> test, corrected over these layers. Layers in which no image differs have p = 1.
    """
    raw = {layer: _test(one[layer].mean(axis=0), other[layer].mean(axis=0)) for layer in one}
    corrected = holm(np.array([test.p for test in raw.values()]))
    return {layer: test._replace(p_holm=float(p)) for (layer, test), p in zip(raw.items(), corrected, strict=True)}


def _test(one: np.ndarray, other: np.ndarray) -> PairedTest:
    differences = (other - one)[other != one]
    n = len(differences)
    if n == 0:
        return PairedTest(0, 0.5, 0.0, 1.0, 1.0)
    ranks = stats.rankdata(np.abs(differences))
    positive = float(ranks[differences > 0].sum())
    return PairedTest(
        images=n,
        higher=float((differences > 0).mean()),
        effect=2 * positive / float(ranks.sum()) - 1,
        p=float(stats.wilcoxon(differences).pvalue),
        p_holm=1.0,
    )
