"""What an analysis found: the plain values that figures, tables, files and sentences are made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from dainv.analysis.arms import BASELINE, kind
from dainv.analysis.dynamics import Band, Dynamics, band
from dainv.analysis.scoring import ScoreSource
from dainv.analysis.seeds import SeedMean, seed_mean
from dainv.analysis.statistics import LayerSummary, difference, proportion, resampled_medians, summarize
from dainv.runs import RunDirectory
from dainv.scores import INPUT, InvarianceScores
from dainv.summaries import Box, Estimate, mean_box


@dataclass(frozen=True)
class AnalyzedRun:
    """A run with its scores and its loss curves.

    Attributes:
        run: where it is.
        label: what it is called in figures and tables; each run of an analysis has another.
        config: its configuration.
        environment: what it was trained with.
        record: metrics of the last complete epoch before the checkpoint that was scored.
        data: name of the data it was scored on.
        available: number of its test images.
        scores: of its checkpoint.
        source: what they were made from.
        dynamics: its losses and accuracies.
    """

    run: RunDirectory
    label: str
    config: dict[str, Any]
    environment: dict[str, Any]
    record: dict[str, Any]
    data: str
    available: int
    scores: InvarianceScores
    source: ScoreSource
    dynamics: Dynamics

    @property
    def name(self) -> str:
        """Name of the run directory."""
        return self.run.name

    @property
    def seed(self) -> int:
        """Seed of its training."""
        return int(self.config["settings"]["seed"])

    @property
    def is_baseline(self) -> bool:
        """Trained without the invariance losses."""
        return kind(self.config) == BASELINE

    @property
    def layers(self) -> list[str]:
        """``"input"`` and the layers of the model."""
        return [INPUT, *self.config["layers"]]

    @cached_property
    def summaries(self) -> dict[str, LayerSummary]:
        """Layer -> summary; one without a score has none."""
        scored = {layer: sigma for layer, sigma in self.scores.sigma.items() if np.isfinite(sigma).all()}
        resampled = resampled_medians(scored, self.source.seed)
        return {layer: summarize(scored[layer], medians) for layer, medians in resampled.items()}

    @cached_property
    def above_pixels(self) -> dict[str, Estimate]:
        """Layer -> median of its scores minus that of the pixels' scores."""
        pixels = self.summaries.get(INPUT)
        if pixels is None:
            return {}
        return {layer: difference(pixels, found) for layer, found in self.summaries.items() if layer != INPUT}

    @property
    def accuracy(self) -> Estimate:
        """Share of correct answers on the test images, with its interval."""
        return proportion(self.record["test"]["accuracy"], self.config["data"]["n_test"])

    @property
    def guessing(self) -> float:
        """Accuracy of a guess."""
        return 1 / len(self.config["data"]["classes"])


@dataclass(frozen=True)
class Arm:
    """Runs that differ in their seed only.

    Attributes:
        label: what it is called in figures and tables.
        runs: at least one, in the order given.
    """

    label: str
    runs: tuple[AnalyzedRun, ...]

    @property
    def n(self) -> int:
        """Number of runs."""
        return len(self.runs)

    @property
    def title(self) -> str:
        """Its label, with the number of its runs if there are several."""
        return self.label if self.n == 1 else f"{self.label} ({self.n} runs)"

    @property
    def is_baseline(self) -> bool:
        """Trained without the invariance losses."""
        return self.runs[0].is_baseline

    @property
    def layers(self) -> list[str]:
        """``"input"`` and the layers of the model."""
        return self.runs[0].layers

    @property
    def by_seed(self) -> dict[int, AnalyzedRun]:
        """Seed -> run, where no two runs share a seed; else nothing."""
        found = {run.seed: run for run in self.runs}
        return found if len(found) == self.n else {}

    @property
    def scored(self) -> list[str]:
        """Layers with scores in all of the runs."""
        return [layer for layer in self.layers if all(layer in run.summaries for run in self.runs)]

    @cached_property
    def boxes(self) -> dict[str, Box]:
        """Layer -> mean over runs of the box plots of their scores."""
        return {layer: mean_box([run.summaries[layer].box for run in self.runs]) for layer in self.scored}

    @cached_property
    def medians(self) -> dict[str, SeedMean]:
        """Layer -> mean over runs of the median score; its interval ends where scores do."""
        return {layer: seed_mean(self.medians_of_runs(layer)).within(-math.inf, 1.0) for layer in self.scored}

    def medians_of_runs(self, layer: str) -> list[float]:
        """Median score of each run at a layer."""
        return [run.summaries[layer].median.value for run in self.runs]

    @property
    def accuracy(self) -> SeedMean:
        """Mean over runs of the test accuracy; its interval ends where accuracies do."""
        return seed_mean([run.accuracy.value for run in self.runs]).within(0.0, 1.0)

    @cached_property
    def dynamics(self) -> Band:
        """Mean and range over the runs of losses and accuracies."""
        return band([run.dynamics for run in self.runs])


def all_layers(arms: Sequence[Arm]) -> list[str]:
    """The layers of all arms, each once: those of the first in order, then what others have beyond."""
    return list(dict.fromkeys(layer for arm in arms for layer in arm.layers))
