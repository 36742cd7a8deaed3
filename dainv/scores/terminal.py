"""Scores as tables of a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from rich import box
from rich.table import Table

from dainv.formatting import number
from dainv.scores.study import Study
from dainv.scores.tables import Rows, class_rows, curve_rows, score_rows


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column(columns[0])
    for column in columns[1:]:
        table.add_column(column, justify="right")
    return table


def tables(study: Study) -> Iterator[Table]:
    """One for the transformations asked for, and one for each way to take them apart."""
    rows = score_rows(study)
    yield _overview(study, rows)
    if study.parts:
        yield _parts(study, rows)
    if study.by_class:
        yield _classes(study)
    yield from _curves(study)


def _of(rows: Rows, key: str, value: object) -> Rows:
    return [row for row in rows if row[key] == value]


def _overview(study: Study, rows: Rows) -> Table:
    settings = study.settings
    title = f"σ: median (quartiles) over {study.scores.n_images:,} images × {settings.repeats}"
    pooled = len(study.transforms) == 1
    extra = [*(["pooled"] if pooled else []), *(["variance ratio"] if pooled and settings.variance_ratio else [])]
    table = _table(title, ["layer", "D", *study.transforms, *extra])
    for layer in study.scores.layers:
        found = {row["transformation"]: row for row in _of(rows, "layer", layer)}
        cells = []
        for name in study.transforms:
            row = found[name]
            middle = f"{number(row['median'])} ({number(row['q1'])}…{number(row['q3'])})"
            cells.append(study.scores.unscored.get(layer, middle))
        row = found[study.transforms[0]]
        if pooled:
            cells.append(number(row["pooled"]))
        if pooled and settings.variance_ratio:
            cells.append(number(row["variance_ratio_pooled"]))
        table.add_row(layer, f"{study.scores.dimensions[layer]:,}", *cells)
    return table


def _parts(study: Study, rows: Rows) -> Table:
    table = _table("median σ of each transformation alone", ["layer", *study.parts])
    for layer in study.scores.layers:
        found = {row["transformation"]: row for row in _of(rows, "layer", layer)}
        table.add_row(layer, *(number(found[name]["median"]) for name in study.parts))
    return table


def _classes(study: Study) -> Table:
    rows = _of(class_rows(study), "transformation", study.transforms[0])
    title = f"classes: σ of {study.transforms[0]}, medians; class-wise invariance of all, lowest and highest"
    table = _table(title, ["layer", "lowest σ", "highest σ", "invariance", "lowest", "highest"])
    for layer in study.scores.layers:
        of_layer = _of(rows, "layer", layer)
        single = [row for row in of_layer if row["class"] is not None]
        cells = [*_ends(single, "median"), number(of_layer[-1]["class_invariance"]), *_ends(single, "class_invariance")]
        table.add_row(layer, *cells)
    return table


def _ends(rows: Rows, key: str) -> list[str]:
    values = np.array([row[key] for row in rows], dtype=float)
    if not np.isfinite(values).any():
        return ["–", "–"]
    return [
        f"{rows[place]['name']}: {number(values[place])}"
        for place in (int(np.nanargmin(values)), int(np.nanargmax(values)))
    ]


def _curves(study: Study) -> Iterator[Table]:
    rows = curve_rows(study)
    for axis in study.axes:
        of_axis = _of(rows, "transformation", axis.transformation)
        title = f"{axis.transformation}, {axis.unit}: median σ"
        table = _table(title, ["layer", *(f"{strength:g}" for strength in axis.strengths)])
        for layer in study.scores.layers:
            table.add_row(layer, *(number(row["median"]) for row in _of(of_axis, "layer", layer)))
        yield table
