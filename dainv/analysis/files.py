"""The tables and the summary as bytes: CSV for other programs, JSON for the rest."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from dainv.analysis.dynamics import Dynamics
from dainv.analysis.results import AnalyzedRun, Comparison
from dainv.analysis.statistics import CONFIDENCE, RESAMPLES, Estimate

_DEFINITIONS = {
    "sigma": "1 - d(x, G(x)) / mean_j d(x, x_j) of Eq. 2; d is the mean squared difference of two images' activations, "
    "the mean is over all images scored, x itself included",
    "n": "number of scores: images x repeats",
    "interval": f"{CONFIDENCE:.0%} percentile interval of {RESAMPLES} bootstrap resamples of images, each with all its "
    "transformations",
    "whiskers": "lowest and highest score within 1.5 interquartile ranges of the box",
    "difference": "median of the run minus median of the reference, paired over images",
    "train": "invariance loss of Eq. 3, mean over the training batches of an epoch; for epoch 0 the first batch before "
    "any update",
    "control": "invariance loss of Eq. 3 of one batch of test images, the same images and views after every epoch",
    "accuracy": "share of test images classified correctly, as they are, with its Wilson interval",
}


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue().encode()


def scores_csv(run: AnalyzedRun) -> bytes:
    """A row a layer; the numbers of a constant layer are left empty."""
    header = ["run", "layer", "D", "images", "repeats", "n"]
    header += ["median", "median_low", "median_high", "q1", "q3", "whisker_low", "whisker_high", "mean"]
    rows = []
    for layer in run.layers:
        repeats, images = run.scores.sigma[layer].shape
        row: list[object] = [run.name, layer, run.scores.dimensions[layer], images, repeats]
        summary = run.summaries.get(layer)
        if summary is None:
            row += [0, *[""] * 8]
        else:
            row += [summary.n, *summary.median, summary.q1, summary.q3, summary.whisker_low, summary.whisker_high]
            row += [summary.mean]
        rows.append(row)
    return _csv(header, rows)


def dynamics_csv(dynamics: Dynamics) -> bytes:
    """A row an epoch and layer."""
    rows = [
        (int(epoch), layer, float(dynamics.train[row, column]), float(dynamics.control[row, column]))
        for row, epoch in enumerate(dynamics.epochs)
        for column, layer in enumerate(dynamics.layers)
    ]
    return _csv(["epoch", "layer", "train", "control"], rows)


def _interval(estimate: Estimate) -> dict[str, float]:
    return estimate._asdict()


def _run_summary(run: AnalyzedRun) -> dict[str, Any]:
    layers = {}
    for layer in run.layers:
        summary = run.summaries.get(layer)
        entry: dict[str, Any] = {"D": run.scores.dimensions[layer], "constant": summary is None}
        if summary is not None:
            entry["sigma"] = {**asdict(summary), "median": _interval(summary.median)}
        if layer in run.dynamics.layers:
            column = run.dynamics.layers.index(layer)
            for part, losses in (("train", run.dynamics.train), ("control", run.dynamics.control)):
                entry[part] = {"first": float(losses[0, column]), "last": float(losses[-1, column])}
        layers[layer] = entry
    return {
        "name": run.name,
        "label": run.label,
        "alpha": run.config["settings"]["alpha"],
        "normalization": run.config["settings"]["normalization"],
        "commit": run.environment.get("commit"),
        "data": run.data,
        "source": asdict(run.source),
        "epoch": run.record["epoch"],
        "accuracy": _interval(run.accuracy),
        "test_loss": run.record["test"]["loss"],
        "epochs": [int(run.dynamics.epochs[0]), int(run.dynamics.epochs[-1])],
        "layers": layers,
    }


def summary_json(
    runs: Sequence[AnalyzedRun],
    comparisons: Sequence[Comparison],
    findings: Sequence[str],
    warnings: Sequence[str],
    environment: dict[str, Any],
) -> bytes:
    """Everything that the report says in numbers."""
    summary = {
        "definitions": _DEFINITIONS,
        "findings": list(findings),
        "warnings": list(warnings),
        "runs": [_run_summary(run) for run in runs],
        "comparisons": [
            {
                "reference": comparison.reference.label,
                "run": comparison.other.label,
                "differences": {layer: _interval(value) for layer, value in comparison.differences.items()},
            }
            for comparison in comparisons
        ],
        "environment": environment,
    }
    return (json.dumps(summary, indent=2, allow_nan=False) + "\n").encode()
