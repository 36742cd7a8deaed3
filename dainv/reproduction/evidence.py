"""What the verdicts, tables and figures look at of a run: plain numbers, whoever computed them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dainv.analysis.results import AnalyzedRun
from dainv.analysis.statistics import estimate
from dainv.reproduction.published import BASELINE, INVARIANCE
from dainv.scores import INPUT
from dainv.summaries import Box, Estimate


@dataclass(frozen=True)
class Evidence:
    """A run in numbers.

    Attributes:
        name: its run directory.
        arm: ``"baseline"`` or ``"invariance"``.
        seed: of the run.
        epochs: that it was trained for.
        accuracy: share of the test images classified correctly, with its interval over images.
        n_test: number of these images.
        guessing: accuracy of a guess.
        boxes: layer -> box plot of its invariance scores, the pixels as ``"input"``; a layer without a score has none.
        medians: layer -> ``(resamples,)`` bootstrap distribution of the median; the same draws for all layers.
        curves: ``(E, L)`` invariance losses on training batches, a row an epoch from the first.
    """

    name: str
    arm: str
    seed: int
    epochs: int
    accuracy: Estimate
    n_test: int
    guessing: float
    boxes: dict[str, Box]
    medians: dict[str, np.ndarray]
    curves: np.ndarray

    @property
    def layers(self) -> list[str]:
        """Layers that have a score, without the pixels."""
        return [layer for layer in self.boxes if layer != INPUT]

    def of_medians(self, function: Callable[[dict[str, Any]], Any]) -> Estimate:
        """Something computed from the medians, with its bootstrap interval over images.

        Args:
            function: of layer -> median; medians come as numbers, and as arrays of resamples.
        """
        value = function({layer: box.median for layer, box in self.boxes.items()})
        return estimate(float(value), np.asarray(function(self.medians)))

    def median(self, layer: str, above: str | None = None) -> Estimate:
        """Median of a layer's scores, or how far it lies above another layer's."""
        return self.of_medians(lambda medians: medians[layer] - (0 if above is None else medians[above]))

    def gain(self, layer: str, over: Evidence) -> Estimate:
        """How far the median of a layer's scores lies above another run's, over images that both were scored on."""
        value = self.boxes[layer].median - over.boxes[layer].median
        return estimate(value, self.medians[layer] - over.medians[layer])


def evidence(run: AnalyzedRun) -> Evidence:
    """The numbers of an analyzed run."""
    trained = run.dynamics.epochs > 0
    return Evidence(
        name=run.name,
        arm=BASELINE if run.is_baseline else INVARIANCE,
        seed=run.seed,
        epochs=int(run.dynamics.epochs[-1]),
        accuracy=run.accuracy,
        n_test=run.config["data"]["n_test"],
        guessing=run.guessing,
        boxes={layer: found.box for layer, found in run.summaries.items()},
        medians={layer: found.resampled for layer, found in run.summaries.items()},
        curves=run.dynamics.train[trained],
    )


def in_every_run(values: Sequence[Estimate]) -> Estimate:
    """The mean over runs, with the span of all their intervals: what lies outside lies outside in every run."""
    return Estimate(
        float(np.mean([value.value for value in values])),
        min(value.low for value in values),
        max(value.high for value in values),
    )


def mean_curves(runs: Sequence[Evidence]) -> np.ndarray:
    """``(E, L)`` mean over seeds, for the epochs that all have."""
    epochs = min(len(run.curves) for run in runs)
    return np.mean([run.curves[:epochs] for run in runs], axis=0)
