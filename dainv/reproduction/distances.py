"""How far the runs are from the published figures, layer by layer, and which variant is nearest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dainv.reproduction.evidence import Evidence, in_every_run, mean_curves
from dainv.reproduction.published import ARMS, DYNAMICS, DYNAMICS_EPOCHS, LAYERS, SCORES
from dainv.settings import TrainSettings
from dainv.summaries import Estimate


@dataclass(frozen=True)
class VariantDistance:
    """How far the first epochs of a variant are from Figure 2.

    Attributes:
        variant: its name.
        by_arm: arm -> root mean square difference over layers and epochs, one a seed.
        overall: over both arms, one a seed.
    """

    variant: str
    by_arm: dict[str, tuple[float, ...]]
    overall: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Over seeds."""
        return float(np.mean(self.overall))


def score_differences(runs: Sequence[Evidence]) -> dict[str, tuple[float, Estimate]]:
    """Layer -> the published median of Figure 1, and ours minus it with our interval."""
    arm = runs[0].arm
    found = {}
    for layer, box in zip(LAYERS, SCORES[arm], strict=True):
        if all(layer in run.boxes for run in runs):
            own = in_every_run([run.median(layer) for run in runs])
            found[layer] = box.median, Estimate(*(value - box.median for value in own))
    return found


def shared_epochs(n_epochs: int) -> list[int]:
    """Published epochs, counted from 0, that a run of so many epochs has."""
    return [epoch for epoch in DYNAMICS_EPOCHS if epoch < n_epochs]


def loss_differences(runs: Sequence[Evidence]) -> dict[int, np.ndarray]:
    """Published epoch -> ``(L,)`` our loss in that epoch minus the published one."""
    curves = mean_curves(runs)
    published = dict(zip(DYNAMICS_EPOCHS, DYNAMICS[runs[0].arm].T, strict=True))
    return {epoch: curves[epoch] - published[epoch] for epoch in shared_epochs(len(curves))}


def in_pairs(curves: np.ndarray, settings: TrainSettings) -> np.ndarray:
    """Losses in the unit of Figure 2, means over distinct pairs, whichever a run logged.

    For equal groups Eq. 3 as printed is K W / T and its form in means (B - 1) / (B - K) W / T.
    """
    if settings.normalization == "pairs":
        return curves
    images = settings.images_per_step
    return curves * (settings.batch_size - 1) / (settings.batch_size - images) / images


def variant_distances(
    curves: Mapping[str, Mapping[str, Sequence[np.ndarray]]],
) -> list[VariantDistance]:
    """Root mean square distance of each variant to the published curves, the nearest first.

    Args:
        curves: variant -> arm -> losses ``(E, L)`` in the unit of Figure 2, one a seed, the same seeds in both arms.
    """
    found = []
    for variant, arms in curves.items():
        squares = {arm: np.array([_squared_distance(one, arm) for one in arms[arm]]) for arm in ARMS}
        overall = np.sqrt(np.mean([squares[arm] for arm in ARMS], axis=0))
        by_arm = {arm: tuple(np.sqrt(squares[arm]).tolist()) for arm in ARMS}
        found.append(VariantDistance(variant, by_arm, tuple(overall.tolist())))
    return sorted(found, key=lambda distance: distance.mean)


def _squared_distance(curves: np.ndarray, arm: str) -> float:
    epochs = shared_epochs(len(curves))
    published = DYNAMICS[arm][:, : len(epochs)].T
    return float(np.mean((curves[epochs] - published) ** 2))


def nearest(distances: Sequence[VariantDistance]) -> str:
    """A sentence: which recipe agrees best with Figure 2, and how sure that is."""
    if len(distances) < 2:
        return "No variant was run, so there is nothing to compare the recipe with."
    first, second = distances[:2]
    everywhere = all(
        own < other for distance in distances[1:] for own, other in zip(first.overall, distance.overall, strict=True)
    )
    gap = f"its root mean square distance is {first.mean:.3f}, that of {second.variant} {second.mean:.3f}"
    n = len(first.overall)
    if n == 1:
        return f"Nearest to Figure 2 is {first.variant}: {gap}. One seed: how much seeds differ is not known."
    if everywhere:
        return f"Nearest to Figure 2 in every one of {n} seeds is {first.variant}: {gap}."
    return f"Nearest to Figure 2 on average is {first.variant}, but not in every one of {n} seeds: {gap}."
