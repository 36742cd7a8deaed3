"""Variance over transformations against variance over samples, feature by feature (Quiroga et al. 2023).

For a feature k and the activations a_irk of N images under R transformations each:

    TV_k = mean over i of the variance over r of a_irk        SV_k = mean over r of the variance over i of a_irk

both unbiased. Their quotient is the normalised variance of a feature: 0 where it does not see the transformation, 1
where a transformation changes as much as another image does. Where both are 0 it is 1, as in their implementation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from dainv.ranks import Ranks
from dainv.scores.sums import Centre, column_sums, in_float32


@dataclass(frozen=True)
class VarianceRatio:
    """Of a layer and a transformation.

    Attributes:
        pooled: sum of TV_k over sum of SV_k, so that a feature counts by its variance.
        mean: mean over features of TV_k / SV_k, their normalised variance of a layer.
    """

    pooled: float
    mean: float


class VarianceSums:
    """The sums of one transformation: over images and repeats for each feature, over images for each repeat.

    Args:
        key: distinguishes the transformation.
        repeats: R, at least 2.
        tensors: where sums are kept.
    """

    def __init__(self, key: str, repeats: int, tensors: dict[str, Tensor]) -> None:
        self._key, self._repeats, self._tensors = key, repeats, tensors
        self._means: dict[str, Tensor] = {}

    def begin(self, dimensions: Mapping[str, int], device: torch.device) -> None:
        """Start from nothing."""
        for layer, dimension in dimensions.items():
            for name, rows in (("within", 1), ("squares", 1), ("sums", self._repeats)):
                self._tensors[self._name(name, layer)] = torch.zeros(rows, dimension, device=device).double()

    def _name(self, sums: str, layer: str) -> str:
        return f"{sums}/{self._key}/{layer}"

    def add(self, repeat: int, layer: str, rows: Tensor, original: Tensor, mean: Centre) -> None:
        """Take the activations of one repeat of a batch into account.

        Args:
            repeat: counted from 0, in order.
            layer: its name.
            rows: ``(n, D)`` of the transformed images.
            original: ``(n, D)`` of the images.
            mean: of all images.
        """
        above = column_sums(rows, mean, powers=2)
        self._tensors[self._name("sums", layer)][repeat] += above[0]
        self._tensors[self._name("squares", layer)][0] += above[1]
        # Welford's update: what does not move adds 0, where a difference of sums of squares would leave its rounding
        change = in_float32(rows) - in_float32(original)
        mean_change = self._means.setdefault(layer, torch.zeros_like(change))
        step = change - mean_change
        mean_change += step / (repeat + 1)
        within = (step * (change - mean_change)).sum(0, dtype=torch.float64)
        self._tensors[self._name("within", layer)][0] += within
        if repeat == self._repeats - 1:
            del self._means[layer]

    def ratio(self, layer: str, n_images: int, ranks: Ranks) -> VarianceRatio:
        """Of all images of all processes."""
        within, squares, sums = (self._tensors[self._name(n, layer)].clone() for n in ("within", "squares", "sums"))
        for part in (within, squares, sums):
            ranks.sum_(part)
        over_transformations = within[0] / (n_images * (self._repeats - 1))
        of_samples = (squares[0] - sums.square().sum(0) / n_images) / (self._repeats * (n_images - 1))
        of_samples[of_samples < 1e-13 * squares[0] / n_images] = 0  # rounding, of a feature that is the same for all
        ratios = torch.where(of_samples > 0, over_transformations / of_samples, torch.inf)
        ratios[(of_samples == 0) & (over_transformations == 0)] = 1
        return VarianceRatio(
            pooled=float(over_transformations.sum() / of_samples.sum()) if float(of_samples.sum()) > 0 else torch.nan,
            mean=float(ratios.mean()),
        )
