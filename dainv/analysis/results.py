"""What an analysis found: the plain values that figures, tables, files and sentences are made of."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from dainv.analysis.dynamics import Dynamics
from dainv.analysis.scoring import ScoreSource
from dainv.analysis.statistics import (
    Estimate,
    LayerSummary,
    difference,
    proportion,
    resampled_medians,
    scored_layers,
    summarize,
)
from dainv.runs import RunDirectory
from dainv.scores import INPUT, InvarianceScores

BASELINE = "baseline"
INVARIANCE = "data augmentation invariance"


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
        scores: of its newest checkpoint.
        source: what they were made from.
        dynamics: its losses.
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
    def is_baseline(self) -> bool:
        """Trained without the invariance losses."""
        return kind(self.config) == BASELINE

    @property
    def layers(self) -> list[str]:
        """``"input"`` and the layers of the model."""
        return [INPUT, *self.config["layers"]]

    @cached_property
    def resampled(self) -> dict[str, np.ndarray]:
        """Layer -> bootstrap distribution of its median."""
        scored = {layer: self.scores.sigma[layer] for layer in scored_layers(self.scores.sigma)}
        return resampled_medians(scored, self.source.seed)

    @cached_property
    def summaries(self) -> dict[str, LayerSummary]:
        """Layer -> summary; a constant layer has none."""
        return {layer: summarize(self.scores.sigma[layer], medians) for layer, medians in self.resampled.items()}

    @cached_property
    def above_pixels(self) -> dict[str, Estimate]:
        """Layer -> median of its scores minus that of the pixels' scores."""
        if INPUT not in self.summaries:
            return {}
        pixels = (self.summaries[INPUT], self.resampled[INPUT])
        return {
            layer: difference(pixels[0], summary, pixels[1], self.resampled[layer])
            for layer, summary in self.summaries.items()
            if layer != INPUT
        }

    @property
    def accuracy(self) -> Estimate:
        """Share of correct answers on the test images, with its interval."""
        return proportion(self.record["test"]["accuracy"], self.config["data"]["n_test"])


def kind(config: Mapping[str, Any]) -> str:
    """The paper's name for a run."""
    return INVARIANCE if config["settings"]["alpha"] else BASELINE


def labels(names: Sequence[str], kinds: Sequence[str]) -> list[str]:
    """One label a run: the paper's name where it tells the runs apart, else the directory's, numbered if need be."""
    if len(set(kinds)) == len(kinds):
        return list(kinds)
    return [
        name if names.count(name) == 1 else f"{name} ({1 + names[:place].count(name)})"
        for place, name in enumerate(names)
    ]


def short_layer(layer: str) -> str:
    """A layer's name on an axis: ``layer3`` is 3, as in the paper."""
    match = re.fullmatch(r"layer(\d+)", layer)
    return match[1] if match else layer


@dataclass(frozen=True)
class Comparison:
    """How much higher the medians of a run are than those of the reference.

    Attributes:
        reference: the baseline if there is one, else the first run.
        other: the run compared with it.
        differences: layer -> median of ``other`` minus median of ``reference``.
    """

    reference: AnalyzedRun
    other: AnalyzedRun
    differences: dict[str, Estimate]


def compare(runs: Sequence[AnalyzedRun]) -> list[Comparison]:
    """Each run against the reference, where both were scored on the same images."""
    reference = next((run for run in runs if run.is_baseline), runs[0])
    return [
        Comparison(
            reference,
            other,
            {
                layer: difference(
                    reference.summaries[layer],
                    other.summaries[layer],
                    reference.resampled[layer],
                    other.resampled[layer],
                )
                for layer in reference.summaries
                if layer in other.summaries
            },
        )
        for other in runs
        if other is not reference and other.source.data_sha256 == reference.source.data_sha256
    ]


@dataclass(frozen=True)
class AnalysisResult:
    """What :func:`dainv.analysis.analyze` found, and where it was written.

    Attributes:
        runs: in the order given.
        comparisons: of the others with the reference.
        warnings: what makes a result doubtful, a line each.
        notes: what is good to know, a line each.
        report: path of the report.
    """

    runs: tuple[AnalyzedRun, ...]
    comparisons: tuple[Comparison, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    report: Path

    def table(self) -> Table:
        """Scores and losses for a terminal, a row a layer."""
        from dainv.analysis.terminal import scores_table

        return scores_table(self.runs)
