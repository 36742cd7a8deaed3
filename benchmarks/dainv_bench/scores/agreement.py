"""Before any time is taken: do all arms come to the same scores?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypedDict

import numpy as np
import torch

from dainv.taps import evaluating
from dainv_bench.roundings import FLOAT32, kappa, refuse_beyond, refuse_dead_layers
from dainv_bench.scores.arms import Arm, Problem, Sigma, published_scores

# What float32 arithmetic may do to 1 - sigma, a ratio of two sums of squares of deviations. Seen: up to 2 roundings.
_BOUND = 40 * FLOAT32
# The Gram identity forms a distance as the difference of squares that are kappa times as large (roundings.py).
# The rounding of an image's own squared norm is in all its distances and does not average out. Seen: up to 4 kappa.
_PER_KAPPA = 16 * FLOAT32


class Deviation(TypedDict):
    """Norm of the difference in sigma over the norm of 1 - sigma, and what it may be."""

    error: float
    bound: float


Agreement = dict[str, Deviation]  # by layer


def bounds_of(arms: Iterable[Arm], kappas: Mapping[str, float]) -> dict[str, float]:
    """Layer -> how far the scores of these arms may lie apart, or that of one arm from the truth."""
    arms = list(arms)
    return {layer: sum(_BOUND + arm.cancels * _PER_KAPPA * value for arm in arms) for layer, value in kappas.items()}


def kappas(problem: Problem) -> dict[str, float]:
    """Layer -> sum of squares of its activations over that of their deviations from their mean.

    Raises:
        UserError: a layer is the same for all images and has no scores.
    """
    with evaluating(problem.network):
        found = {name: kappa(rows) for name, rows in problem.features(problem.images).items()}
    refuse_dead_layers(found)
    return found


def truth(problem: Problem) -> Sigma:
    """Scores by all pairs in float64, from the activations of the same float32 network."""
    return published_scores(problem, torch.float64)


def compare(name: str, sigma: Sigma, other: Sigma, bounds: Mapping[str, float]) -> Agreement:
    """Scores of an arm against other scores of the same images.

    Raises:
        UserError: they lie further apart than the bounds, and at which layer.
    """
    found: Agreement = {}
    for layer, bound in bounds.items():
        error = float(np.linalg.norm(sigma[layer] - other[layer]) / np.linalg.norm(1 - other[layer]))
        refuse_beyond(bound, error, name, layer, "1 - sigma")
        found[layer] = Deviation(error=error, bound=bound)
    return found
