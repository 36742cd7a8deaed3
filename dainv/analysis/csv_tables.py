"""The tables as CSV, for other programs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dainv.analysis.comparison import Comparison
from dainv.analysis.dynamics import Dynamics
from dainv.analysis.loss_phases import Phase
from dainv.analysis.results import AnalyzedRun
from dainv.export import csv_of


def scores_csv(runs: Sequence[AnalyzedRun]) -> bytes:
    """A row a run and layer; the numbers of a layer without a score are left empty."""
    header = ["run", "layer", "D", "images", "repeats", "n"]
    header += ["median", "median_low", "median_high", "q1", "q3", "whisker_low", "whisker_high", "mean"]
    rows = []
    for run in runs:
        for layer in run.layers:
            repeats, images = run.scores.sigma[layer].shape
            row: list[object] = [run.name, layer, run.scores.dimensions[layer], images, repeats]
            found = run.summaries.get(layer)
            if found is None:
                row += [0, *[""] * 8]
            else:
                q1, _, q3, *whiskers = found.box
                row += [found.n, *found.median, q1, q3, *whiskers, found.mean]
            rows.append(row)
    return csv_of(header, rows)


def dynamics_csv(runs: Sequence[AnalyzedRun]) -> bytes:
    """A row a run, epoch and layer: losses with the phase that each belongs to, and accuracies of the epoch."""
    header = ["run", "epoch", "layer", "train", "control", "train_phase", "control_phase"]
    header += ["train_accuracy", "test_accuracy"]
    rows: list[tuple[object, ...]] = []
    for run in runs:
        d = run.dynamics
        in_training = {layer: phase_names(d, found) for layer, found in d.train_phases.items()}
        in_control = {layer: phase_names(d, found) for layer, found in d.control_phases.items()}
        for row, epoch in enumerate(d.epochs):
            for column, layer in enumerate(d.layers):
                losses = (_short(d.train[row, column]), _short(d.control[row, column]))
                names = (in_training[layer][row], in_control[layer][row])
                accuracies = (_short(d.train_accuracy[row]), _short(d.test_accuracy[row]))
                rows.append((run.name, int(epoch), layer, *losses, *names, *accuracies))
    return csv_of(header, rows)


def _short(value: float) -> str:
    """More digits than the float32 that they were made with has."""
    return f"{value:.9g}"


def phase_names(dynamics: Dynamics, found: Sequence[Phase]) -> list[str]:
    """Of each epoch: ``fall``, ``rise``, ``turn`` where one becomes the other, or nothing."""
    names = np.full(len(dynamics.epochs), "", dtype=object)
    for phase in found:
        names[phase.start : phase.end + 1] = phase.kind
    for phase in found[1:]:
        names[phase.start] = "turn"
    return [str(name) for name in names]


def comparison_csv(comparisons: Sequence[Comparison]) -> bytes:
    """A row a pair of runs and layer (over images), then a row a pair of arms and layer (over seeds)."""
    header = ["over", "reference", "run", "layer", "n", "difference", "low", "high", "effect", "higher", "p", "p_holm"]
    rows: list[tuple[object, ...]] = []
    for comparison in comparisons:
        for pair in comparison.pairs:
            for layer, test in pair.tests.items():
                who = ("images", pair.reference.label, pair.other.label, layer, str(test.images))
                rows.append((*who, *pair.differences[layer], test.effect, test.higher, test.p, test.p_holm))
        for layer, found in comparison.seeds.items():
            who = ("seeds", comparison.reference.label, comparison.other.label, layer, "+".join(map(str, found.n)))
            rows.append((*who, found.value, found.low, found.high, "", "", found.p, found.p_holm))
    return csv_of(header, rows)
