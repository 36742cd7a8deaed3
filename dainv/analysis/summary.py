"""The summary: everything that the report says in numbers, as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from dainv.analysis.comparison import Comparison
from dainv.analysis.dynamics import Dynamics
from dainv.analysis.findings import Finding
from dainv.analysis.loss_phases import Phase
from dainv.analysis.results import AnalyzedRun, Arm
from dainv.analysis.statistics import CONFIDENCE, RESAMPLES
from dainv.export import json_of
from dainv.scores.results import DEFINITIONS

_DEFINITIONS = {
    **DEFINITIONS,
    "interval": f"{CONFIDENCE:.0%} percentile interval of {RESAMPLES} bootstrap resamples of images, each with all its "
    "transformations",
    "whiskers": "lowest and highest score within 1.5 interquartile ranges of the box",
    "arms": "runs that differ in seed, paths and saving only; sigma: mean over the arm's runs of the median, with the "
    f"{CONFIDENCE:.0%} t interval over runs (null for one run), least and most of a run",
    "images": "two runs image by image; difference: median of the run minus median of the reference, bootstrapped over "
    "the same images; p: two-sided Wilcoxon signed-rank test of the images' mean scores over transformations, p_holm "
    "after Holm's correction over layers; effect: matched-pairs rank-biserial correlation; higher: share of the images "
    "that differ in which the run scores higher",
    "seeds": "two arms over seeds; difference of the means over runs of the median sigma, with its t interval and "
    "t test, paired by seed where both arms have the same seeds, else Welch's; p_holm after Holm's correction over "
    "layers; same_sign of pairs: pairs of runs whose difference has this sign",
    "train": "invariance loss of Eq. 3, mean over the training batches of an epoch; for epoch 0 the first batch before "
    "any update",
    "control": "invariance loss of Eq. 3 of one batch of test images, the same images and views after every epoch",
    "phases": "stretches in which the running median of three epochs' losses fell or rose by at least a tenth of its "
    "range, a twentieth of its level and six standard deviations of its noise; turning points lie between them",
    "accuracy": "share of test images classified correctly, as they are, with its Wilson interval",
}


def _phases(dynamics: Dynamics, found: Sequence[Phase]) -> list[dict[str, Any]]:
    return [
        {"kind": phase.kind, "from": int(dynamics.epochs[phase.start]), "to": int(dynamics.epochs[phase.end])}
        for phase in found
    ]


def _run_summary(run: AnalyzedRun) -> dict[str, Any]:
    layers = {}
    dynamics = run.dynamics
    for layer in run.layers:
        summary = run.summaries.get(layer)
        entry: dict[str, Any] = {"D": run.scores.dimensions[layer], "constant": summary is None}
        if summary is not None:
            q1, _, q3, low, high = summary.box
            box = {"q1": q1, "q3": q3, "whisker_low": low, "whisker_high": high}
            entry["sigma"] = {"n": summary.n, "median": summary.median._asdict(), **box, "mean": summary.mean}
        if layer in dynamics.layers:
            column = dynamics.layers.index(layer)
            for part, losses, found in (
                ("train", dynamics.train, dynamics.train_phases),
                ("control", dynamics.control, dynamics.control_phases),
            ):
                ends = {"first": float(losses[0, column]), "last": float(losses[-1, column])}
                entry[part] = {**ends, "phases": _phases(dynamics, found[layer])}
        layers[layer] = entry
    return {
        "name": run.name,
        "label": run.label,
        "alpha": run.config["settings"]["alpha"],
        "seed": run.seed,
        "normalization": run.config["settings"]["normalization"],
        "commit": run.environment.get("commit"),
        "checkpoint": run.run.checkpoint,
        "data": run.data,
        "source": asdict(run.source),
        "epoch": run.record["epoch"],
        "accuracy": run.accuracy._asdict(),
        "test_loss": run.record["test"]["loss"],
        "epochs": [int(dynamics.epochs[0]), int(dynamics.epochs[-1])],
        "layers": layers,
    }


def _arm_summary(arm: Arm) -> dict[str, Any]:
    return {
        "label": arm.label,
        "runs": [run.name for run in arm.runs],
        "accuracy": arm.accuracy._asdict(),
        "sigma": {layer: mean._asdict() for layer, mean in arm.medians.items()},
        "turning_epochs": {layer: arm.dynamics.mean.turning_epochs(layer) for layer in arm.dynamics.mean.layers},
    }


def _comparison_summary(comparison: Comparison) -> dict[str, Any]:
    return {
        "reference": comparison.reference.label,
        "run": comparison.other.label,
        "images": [
            {
                "reference": pair.reference.name,
                "run": pair.other.name,
                "layers": {
                    layer: {"difference": pair.differences[layer]._asdict(), **test._asdict()}
                    for layer, test in pair.tests.items()
                },
            }
            for pair in comparison.pairs
        ],
        "seeds": {layer: found._asdict() for layer, found in comparison.seeds.items()},
        "accuracy": None if comparison.accuracy is None else comparison.accuracy._asdict(),
    }


def summary_json(
    arms: Sequence[Arm],
    comparisons: Sequence[Comparison],
    findings: Sequence[Finding],
    warnings: Sequence[str],
    environment: dict[str, Any],
) -> bytes:
    """Everything that the report says in numbers."""
    return json_of(
        {
            "definitions": _DEFINITIONS,
            "findings": [finding.sentence for finding in findings],
            "warnings": list(warnings),
            "runs": [_run_summary(run) for arm in arms for run in arm.runs],
            "arms": [_arm_summary(arm) for arm in arms],
            "comparisons": [_comparison_summary(comparison) for comparison in comparisons],
            "environment": environment,
        }
    )
