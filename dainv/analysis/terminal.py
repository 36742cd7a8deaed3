"""The table of scores and losses that fits a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table

from dainv.analysis.findings import number
from dainv.analysis.results import AnalyzedRun, short_layer
from dainv.scores import INPUT


def scores_table(runs: Sequence[AnalyzedRun]) -> Table:
    """A row a layer; for each run the median score with quartiles, and the invariance loss at both ends of training.

    From three runs on, the numbers of a run stand below each other.
    """
    wide = len(runs) <= 2
    table = Table(
        title="σ: median (quartiles)   L_inv: training, first → last epoch",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        leading=0 if wide else 1,
    )
    table.add_column("layer", no_wrap=True)
    for run in runs:
        if wide:
            table.add_column(f"{run.label}\nσ", justify="right")
            table.add_column("L_inv", justify="right", vertical="bottom", no_wrap=True)
        else:
            table.add_column(run.label, justify="right")
    for layer in runs[0].layers:
        cells: list[str] = []
        for run in runs:
            median, quartiles = _score(run, layer)
            loss = _loss(run, layer)
            cells += [f"{median}{quartiles}", loss] if wide else ["\n".join([median, quartiles.strip(), loss])]
        table.add_row(short_layer(layer), *cells)
    return table


def _score(run: AnalyzedRun, layer: str) -> tuple[str, str]:
    """Median and quartiles."""
    if layer not in run.summaries:
        return "constant", ""
    summary = run.summaries[layer]
    return number(summary.median.value), f" ({number(summary.q1)}…{number(summary.q3)})"


def _loss(run: AnalyzedRun, layer: str) -> str:
    if layer == INPUT:
        return ""
    curve = run.dynamics.train[:, run.dynamics.layers.index(layer)]
    return f"{number(curve[0])} → {number(curve[-1])}"
