"""Scores as rows, CSV, JSON and arrays, for people and other programs."""

from __future__ import annotations

import io
from dataclasses import asdict
from typing import Any

import numpy as np

from dainv.export import csv_of, json_of, missing
from dainv.scores.results import DEFINITIONS
from dainv.scores.study import Study
from dainv.summaries import quartiles

_DEFINITIONS = {
    **DEFINITIONS,
    "pooled": "1 - mean of d(x, G(x)) over images and repeats / mean of d over all pairs of images, i = j included",
    "alone": "one transformation of the scheme, at its range; a flip always flips",
    "curves": "one transformation of one strength, once for each image; rotation, shift and shear go either way, "
    "equally likely",
    "class_invariance": "1 - mean d within a class / mean d of all pairs, pairs of distinct images; the class 'all' is "
    "over the pairs of all classes together, 1 - Eq. 3 with class labels as groups",
    "variance_ratio": "of Quiroga et al. 2023: variance over transformations / variance over samples; pooled: ratio of "
    "the sums over features, mean: mean over features of the ratios",
}


Rows = list[dict[str, Any]]


def score_rows(study: Study) -> Rows:
    """A row for each transformation asked for, or part of one, and layer."""
    rows: Rows = []
    for name in study.named:
        scores, pooled = study.scores.scores(name), study.scores.pooled(name)
        ratios = study.scores.variance_ratios(name) if study.settings.variance_ratio else {}
        for layer, sigma in scores.sigma.items():
            row: dict[str, Any] = {"transformation": name, "alone": name in study.parts, "layer": layer}
            row |= {"D": scores.dimensions[layer], "images": sigma.shape[1], "repeats": len(sigma), "n": sigma.size}
            row |= {**quartiles(sigma), "mean": float(sigma.mean()), "pooled": pooled[layer]}
            if ratios:
                row |= {"variance_ratio_pooled": ratios[layer].pooled, "variance_ratio_mean": ratios[layer].mean}
            rows.append(row)
    return rows


def curve_rows(study: Study) -> Rows:
    """A row for each strength of a transformation and layer."""
    rows: Rows = []
    for axis in study.axes:
        for strength, name in zip(axis.strengths, axis.augmentations("bilinear"), strict=True):
            for layer, sigma in study.scores.scores(name).sigma.items():
                row: dict[str, Any] = {"transformation": axis.transformation, "unit": axis.unit, "strength": strength}
                if axis.transformation == "shift":
                    row["pixels"] = " x ".join(f"{strength * side:g}" for side in study.image_shape[1:])
                else:
                    row["pixels"] = None
                rows.append({**row, "layer": layer, "n": sigma.size, **quartiles(sigma)})
    return rows


def class_rows(study: Study) -> Rows:
    """A row for each class and layer: sigma of its images, and class-wise invariance."""
    if not study.by_class:
        return []
    rows: Rows = []
    found = study.scores.class_invariance()
    labels = study.scores.labels
    for name in study.transforms:
        for layer, sigma in study.scores.scores(name).sigma.items():
            every: dict[str, Any] = {"transformation": name, "layer": layer}
            for place, label in enumerate(study.scores.classes):
                members = sigma[:, labels == label]
                row = {**every, "class": label, "name": study.class_names[label], "images": members.shape[1]}
                row |= {**quartiles(members), "class_invariance": float(found[layer].by_class[place])}
                rows.append(row)
            row = {**every, "class": None, "name": "all", "images": sigma.shape[1], **quartiles(sigma)}
            rows.append({**row, "class_invariance": found[layer].overall})
    return rows


def rows_csv(rows: Rows) -> bytes:
    """CSV, the keys of the first row for a header."""
    return csv_of(list(rows[0]), (row.values() for row in rows))


def _plain(rows: Rows) -> Rows:
    """JSON has no NaN."""
    return [{key: None if missing(value) else value for key, value in row.items()} for row in rows]


def summary_of(study: Study) -> dict[str, Any]:
    """Everything in numbers but the scores of single images, with definitions and provenance."""
    return {
        "definitions": _DEFINITIONS,
        "settings": asdict(study.settings),
        "provenance": study.provenance,
        "images": study.scores.n_images,
        "layers": {layer: {"D": dimension} for layer, dimension in study.scores.dimensions.items()},
        "unscored": study.scores.unscored,
        "notes": study.scores.notes,
        "scores": _plain(score_rows(study)),
        "curves": _plain(curve_rows(study)),
        "classes": _plain(class_rows(study)),
    }


def npz_of(study: Study) -> bytes:
    """The score of every image: arrays ``TRANSFORMATION/LAYER`` of shape ``(repeats, N)``, ``indices``, ``labels``."""
    arrays: dict[str, Any] = {"indices": study.indices}
    if study.scores.labels is not None:
        arrays["labels"] = study.scores.labels
    for name in study.scores.transformations:
        arrays |= {f"{name}/{layer}": sigma for layer, sigma in study.scores.scores(name).sigma.items()}
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def files_of(study: Study) -> dict[str, bytes | None]:
    """File name -> content, but for the figures; None for a table that was not asked for."""
    files: dict[str, bytes | None] = {
        "scores.npz": npz_of(study),
        "scores.csv": rows_csv(score_rows(study)),
        "summary.json": json_of(summary_of(study)),
    }
    for name, rows in (("curves.csv", curve_rows(study)), ("classes.csv", class_rows(study))):
        files[name] = rows_csv(rows) if rows else None
    return files
