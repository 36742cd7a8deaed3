"""The table of scores and losses that fits a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table

from dainv.analysis.results import Arm, all_layers
from dainv.formatting import number, short_layer


def scores_table(arms: Sequence[Arm]) -> Table:
    """A row a layer; for each arm the median score with quartiles, and the invariance loss at both ends of training.

    Of an arm with several runs, it is the mean of the medians with the lowest and highest, and the mean of the losses.
    From three arms on, the numbers of an arm stand below each other.
    """
    wide = len(arms) <= 2
    brackets = "quartiles" if all(arm.n == 1 for arm in arms) else "quartiles, or lowest…highest run"
    table = Table(
        title=f"σ: median ({brackets})   L_inv: training, first → last epoch",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        leading=0 if wide else 1,
    )
    table.add_column("layer", no_wrap=True)
    for arm in arms:
        if wide:
            table.add_column(f"{arm.title}\nσ", justify="right", overflow="fold")
            table.add_column("L_inv", justify="right", vertical="bottom", no_wrap=True)
        else:
            table.add_column(arm.title, justify="right", overflow="fold")
    for layer in all_layers(arms):
        cells: list[str] = []
        for arm in arms:
            median, around = _score(arm, layer)
            loss = _loss(arm, layer)
            cells += [f"{median} {around}".strip(), loss] if wide else ["\n".join([median, around, loss])]
        table.add_row(short_layer(layer), *cells)
    for column in table.columns:
        column.min_width = max(len(line) for cell in column.cells for line in str(cell).split("\n"))
    return table


def _score(arm: Arm, layer: str) -> tuple[str, str]:
    """Median and quartiles, or mean and range of the runs' medians."""
    if layer not in arm.layers:
        return "–", ""
    if layer not in arm.medians:
        return "no score", ""
    mean = arm.medians[layer]
    if arm.n > 1:
        return number(mean.value), f"({number(mean.least)}…{number(mean.most)})"
    return number(mean.value), f"({number(arm.boxes[layer].q1)}…{number(arm.boxes[layer].q3)})"


def _loss(arm: Arm, layer: str) -> str:
    dynamics = arm.dynamics.mean
    if layer not in dynamics.layers:
        return ""
    curve = dynamics.train[:, dynamics.layers.index(layer)]
    return f"{number(curve[dynamics.first_mean])} → {number(curve[-1])}"
