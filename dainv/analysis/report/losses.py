"""The tables of the invariance losses and their phases."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from dainv.analysis.dynamics import Dynamics
from dainv.analysis.loss_phases import LEAST_RECORDS, Phase
from dainv.analysis.report import html
from dainv.analysis.report.captions import loss_definition
from dainv.analysis.results import Arm
from dainv.formatting import capital, number, short_layer, spread

_NOTE = (
    "Weight: the factor of the layer in Eq. 4. Untrained: the first training batch before any update; all else under "
    "training: means over the batches of an epoch, for the lowest and highest with the epoch in brackets. Control: one "
    "batch of test images, the same images and views every time. Phases: epochs between which the loss, as a running "
    "median of three epochs, fell (↓) or rose (↑) by at least a tenth of its range, a twentieth of its level and six "
    f"standard deviations of its noise; none with fewer than {LEAST_RECORDS} epochs. Where a phase meets the next is a "
    "turning point."
)


def losses_section(arms: Sequence[Arm]) -> str:
    """A table an arm; of several runs, their mean."""
    parts = [f"<p>The loss of a layer (Eq. 3) is {loss_definition(arms)}.</p>"]
    for arm in arms:
        mean = f", mean of {arm.n} runs" if arm.n > 1 else ""
        parts.append(f"<h3>{escape(capital(arm.label))}{mean}</h3>{_table(arm)}")
    return html.section("Invariance losses", *parts, html.note(_NOTE))


def _table(arm: Arm) -> str:
    dynamics = arm.dynamics.mean
    weights = arm.runs[0].config.get("weights") or [None] * len(dynamics.layers)
    rows = []
    for column, layer in enumerate(dynamics.layers):
        curve, control = dynamics.train[:, column], dynamics.control[:, column]
        first = dynamics.first_mean
        low, high = first + int(curve[first:].argmin()), first + int(curve[first:].argmax())
        weight = weights[column]
        row = [
            html.Cell(escape(short_layer(layer)), column),
            html.Cell("–" if weight is None else f"{weight:.4f}" if weight else "0", weight),
            html.value(curve[0]) if dynamics.epochs[0] == 0 else html.Cell("–"),
            html.value(curve[first]),
            html.Cell(f"{number(curve[low], 3)} <small>({dynamics.epochs[low]})</small>", curve[low]),
            html.Cell(f"{number(curve[high], 3)} <small>({dynamics.epochs[high]})</small>", curve[high]),
            html.value(curve[-1]),
            html.Cell(_phases(dynamics, dynamics.train_phases[layer])),
            html.value(control[0]),
            html.value(control[-1]),
            html.Cell(_phases(dynamics, dynamics.control_phases[layer])),
        ]
        if arm.n > 1:
            row.insert(8, html.Cell(_turns_of_runs(arm, layer)))
        rows.append(row)
    began, last = (f"Epoch {dynamics.epochs[place]}" for place in (dynamics.first_mean, -1))
    header = ["Layer", "Weight", "Untrained", began, "Lowest", "Highest", last, "Phases"]
    header += ["Turning, by run"] if arm.n > 1 else []
    header += [f"Control, epoch {dynamics.epochs[0]}", last, "Phases"]
    return html.table(header, rows, f"Invariance losses of {arm.label}")


def _phases(dynamics: Dynamics, found: Sequence[Phase]) -> str:
    arrows = {"fall": "↓", "rise": "↑"}
    said = [
        f"{arrows[phase.kind]} {dynamics.epochs[phase.start]}\u2060–\u2060{dynamics.epochs[phase.end]}"
        for phase in found
    ]
    return ", ".join(said) or "–"


def _turns_of_runs(arm: Arm, layer: str) -> str:
    """Range of the turning epochs of the runs that turn as often as their mean, and how many these are."""
    mean = [phase.kind for phase in arm.dynamics.mean.train_phases[layer]]
    alike = [run.dynamics for run in arm.runs if [p.kind for p in run.dynamics.train_phases[layer]] == mean]
    turns = zip(*(dynamics.turning_epochs(layer) for dynamics in alike), strict=True)
    said = ", ".join(spread(epochs) for epochs in turns)
    return f"{said} <small>({len(alike)} of {arm.n})</small>" if said else "–"
