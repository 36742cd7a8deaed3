"""Linear CKA as a table, as CSV, as JSON and as a heat map."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

from rich.table import Table

from dainv.export import csv_of, json_of, missing, write_file
from dainv.formatting import number, short_layer
from dainv.geometry.cka import CKA

FORMS = (".csv", ".json", ".png", ".svg")  # endings of the files that can be written

_ANNOTATED = 12  # layers; in a larger heat map numbers would not be legible
DEFINITION = "linear CKA, unbiased, HSIC averaged over batches (Nguyen, Raghu & Kornblith 2021)"


def cka_table(cka: CKA, title: str) -> Table:
    """Rows and columns as in the matrix."""
    table = Table("layer", title=title)
    for column in cka.columns:
        table.add_column(short_layer(column), justify="right", overflow="fold")
    for row, values in zip(cka.rows, cka.values, strict=True):
        table.add_row(short_layer(row), *map(number, values))
    return table


def cka_csv(cka: CKA) -> bytes:
    """A row a pair of layers; what is not defined is left empty."""
    pairs = product(cka.rows, cka.columns)
    return csv_of(
        ["row", "column", "cka"],
        ([*pair, value] for pair, value in zip(pairs, cka.values.ravel().tolist(), strict=True)),
    )


def cka_json(cka: CKA, about: Mapping[str, Any]) -> bytes:
    """The matrix with what it was made from; what is not defined is null."""
    values = [[None if missing(value) else value for value in row] for row in cka.values.tolist()]
    content = {
        "definition": DEFINITION,
        **about,
        "images": cka.n_images,
        "batches": cka.n_batches,
        "rows": cka.rows,
        "columns": cka.columns,
        "values": values,
    }
    return json_of(content)


def cka_figure(cka: CKA, form: str, labels: tuple[str, str]) -> bytes:
    """A heat map, the first layers at the bottom left.

    Args:
        cka: what to draw.
        form: ``"png"`` or ``"svg"``.
        labels: what the rows and the columns are layers of.
    """
    from matplotlib.figure import Figure

    from dainv.drawing import render, style, write_numbers

    with style():
        side = max(3.2, 0.42 * max(len(cka.rows), len(cka.columns)) + 1.2)
        figure = Figure(figsize=(side + 0.9, side), layout="constrained")
        axes = figure.add_subplot()
        drawn = axes.imshow(cka.values, origin="lower", vmin=0, vmax=1, cmap="viridis")
        names = [short_layer(layer) for layer in cka.columns]
        axes.set_xticks(range(len(names)), names, rotation=0 if max(map(len, names)) <= 3 else 90)
        axes.set_yticks(range(len(cka.rows)), [short_layer(layer) for layer in cka.rows])
        axes.set_ylabel(f"layer of {labels[0]}")
        axes.set_xlabel(f"layer of {labels[1]}")
        figure.colorbar(drawn, ax=axes, label="linear CKA", shrink=0.85)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        if max(cka.values.shape) <= _ANNOTATED:
            write_numbers(axes, cka.values)
        return render(figure, form)


def save_cka(cka: CKA, path: Path, about: Mapping[str, Any], labels: tuple[str, str]) -> None:
    """Write a file in the form that its name ends in, one of ``FORMS``.

    Raises:
        UserError: it cannot be written.
    """
    if path.suffix == ".csv":
        content = cka_csv(cka)
    elif path.suffix == ".json":
        content = cka_json(cka, about)
    else:
        content = cka_figure(cka, path.suffix[1:], labels)
    write_file(path, content)
