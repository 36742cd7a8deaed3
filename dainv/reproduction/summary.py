"""The reproduction as data: summary.json with everything, accuracy.csv with a row a run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from dainv.export import csv_of
from dainv.reproduction.claims import Verdict
from dainv.reproduction.distances import VariantDistance, loss_differences, nearest, score_differences
from dainv.reproduction.evidence import Evidence
from dainv.reproduction.published import ACCURACY, EPOCHS, THESIS_ACCURACY


def summary(
    arms: Mapping[str, Sequence[Evidence]],
    verdicts: Sequence[Verdict],
    variants: Sequence[VariantDistance],
    provenance: Mapping[str, Any],
) -> dict[str, Any]:
    """All results as plain values; the page is made of this alone.

    Args:
        arms: arm -> runs.
        verdicts: of the claims.
        variants: nearest first; empty where none were run.
        provenance: settings, data, machine, commit.
    """
    return {
        "epochs": min(run.epochs for runs in arms.values() for run in runs),
        "published_epochs": EPOCHS,
        "seeds": [run.seed for run in next(iter(arms.values()))],
        "claims": [asdict(verdict) for verdict in verdicts],
        "accuracy": {
            arm: {
                "paper_percent": ACCURACY[arm],
                "thesis_percent": THESIS_ACCURACY[arm],
                "runs": [{"seed": run.seed, "n_test": run.n_test, **run.accuracy._asdict()} for run in runs],
            }
            for arm, runs in arms.items()
        },
        "scores": {
            arm: {
                layer: {
                    "published_median": published,
                    "median": published + difference.value,
                    "medians": [run.boxes[layer].median for run in runs],
                    **_ends(difference),
                }
                for layer, (published, difference) in score_differences(runs).items()
            }
            for arm, runs in arms.items()
        },
        "pixels": {
            arm: [run.boxes["input"].median for run in runs if "input" in run.boxes] for arm, runs in arms.items()
        },
        "losses": {
            arm: {str(epoch): values.tolist() for epoch, values in loss_differences(runs).items()}
            for arm, runs in arms.items()
        },
        "variants": [asdict(variant) for variant in variants],
        "nearest_variant": nearest(variants) if variants else None,
        **provenance,
    }


def _ends(difference: Any) -> dict[str, float]:
    return {"difference": difference.value, "difference_low": difference.low, "difference_high": difference.high}


def summary_json(found: Mapping[str, Any]) -> bytes:
    """The summary as a file."""
    return (json.dumps(found, indent=1, allow_nan=False, ensure_ascii=False) + "\n").encode()


def accuracy_csv(arms: Mapping[str, Sequence[Evidence]]) -> bytes:
    """A row a run: percent, with the interval over the test images, beside the paper's."""
    header = ["arm", "seed", "epochs", "accuracy", "low", "high", "images", "paper"]
    rows = (
        [arm, run.seed, run.epochs, *(f"{100 * value:.2f}" for value in run.accuracy), run.n_test, ACCURACY[arm]]
        for arm, runs in arms.items()
        for run in runs
    )
    return csv_of(header, rows)
