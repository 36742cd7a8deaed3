"""Figures 1 and 2 with the published values beside ours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from dainv.drawing import LIGHT, SCORE_LIMITS, boxes, grid, render, score_axes, style
from dainv.formatting import short_layer
from dainv.reproduction.evidence import Evidence, mean_curves
from dainv.reproduction.published import ARMS, BASELINE, DYNAMICS, DYNAMICS_EPOCHS, INVARIANCE, LAYERS, SCORES
from dainv.scores import INPUT
from dainv.summaries import mean_box

_LABELS = {BASELINE: "baseline", INVARIANCE: "data augmentation invariance"}
_TICKS = (0, 1, 3, 5, 10, 20, 50, 100, 200, 349)

Arms = Mapping[str, Sequence[Evidence]]


def scores_figure(arms: Arms, form: str) -> bytes:
    """Figure 1: at each layer the published box, open, beside ours, for both arms.

    Args:
        arms: arm -> its runs, whose five numbers are averaged over seeds; a dot is the median of a seed.
        form: ``"png"`` or ``"svg"``.
    """
    with style():
        figure = Figure(figsize=(9.6, 4.0), layout="constrained")
        axes = figure.add_subplot()
        names = (INPUT, *LAYERS)
        handles = []
        low, high = SCORE_LIMITS
        for number, arm in enumerate(ARMS):
            runs, colour, place = arms[arm], LIGHT.baseline if arm == BASELINE else LIGHT.invariance, 0.4 * number - 0.3
            shown = [layer for layer in names if all(layer in run.boxes for run in runs)]
            ours = [mean_box([run.boxes[layer] for run in runs]).drawn for layer in shown]
            medians = [[run.boxes[layer].median for run in runs] for layer in shown] if len(runs) > 1 else []
            published = [box.drawn for box in SCORES[arm]]
            boxes(axes, published, [names.index(layer) + place for layer in LAYERS], 0.16, colour, filled=False)
            places = [names.index(layer) + place + 0.18 for layer in shown]
            boxes(axes, ours, places, 0.16, colour, points=medians)
            handles += [
                Patch(facecolor=LIGHT.paper, edgecolor=colour, label=f"{_LABELS[arm]}, published"),
                Patch(facecolor=colour, edgecolor=colour, label=f"{_LABELS[arm]}, here"),
            ]
            low = min([low, *(box["whislo"] - 0.05 for box in ours)])
        score_axes(axes, [short_layer(layer) for layer in names])
        axes.set_ylim(low, high)
        axes.set_xlabel("Layer")
        axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1.01), ncols=2, borderpad=0)
        return render(figure, form)


def dynamics_figure(arms: Arms, form: str) -> bytes:
    """Figure 2: the published invariance losses above, ours below, an arm a column.

    Points are what was read off the published figure, below too. An epoch stands at its square root, which widens the
    first ones; epochs are counted from 0 as in the paper.

    Args:
        arms: arm -> its runs, averaged over seeds; a band is their range.
        form: ``"png"`` or ``"svg"``.
    """
    with style():
        colours = [colormaps["viridis"](place) for place in np.linspace(0.0, 0.92, len(LAYERS))]
        figure = Figure(figsize=(9.6, 6.4), layout="constrained")
        panels = figure.subplots(2, len(ARMS), sharey=True)
        for column, arm in enumerate(ARMS):
            mean = mean_curves(arms[arm])
            every = np.array([run.curves[: len(mean)] for run in arms[arm]])
            _curves(panels[0, column], arm, np.array(DYNAMICS_EPOCHS), DYNAMICS[arm].T[None], colours)
            _curves(panels[1, column], arm, np.arange(len(mean)), every, colours)
            panels[0, column].set_title(f"{_LABELS[arm]}, published")
            panels[1, column].set_title(f"{_LABELS[arm]}, here (points: published)")
            panels[1, column].set_xlabel("Epoch")
        for panel in panels.ravel():
            grid(panel)
        for panel in panels[:, 0]:
            panel.set_ylabel(r"Invariance loss $\mathcal{L}_{inv}$")
        top = max(float(run.curves.max()) for runs in arms.values() for run in runs)
        panels[0, 0].set_ylim(0, max(1.0, 1.05 * top))
        lines = [
            Line2D([], [], color=colour, linewidth=2, label=short_layer(layer))
            for layer, colour in zip(LAYERS, colours, strict=True)
        ]
        figure.legend(handles=lines, title="Layer", loc="outside right upper", handlelength=1.4)
        return render(figure, form)


def _curves(
    panel: Axes, arm: str, epochs: np.ndarray, runs: np.ndarray, colours: Sequence[tuple[float, float, float, float]]
) -> None:
    """Losses ``(S, E, L)`` of S runs, and the published ones at the epochs that these have."""
    places, last = np.sqrt(epochs), max(1, int(epochs[-1]))
    read = [column for column, epoch in enumerate(DYNAMICS_EPOCHS) if epoch <= epochs[-1]]
    for layer, colour in enumerate(colours[: runs.shape[2]]):
        losses = runs[:, :, layer]
        panel.fill_between(places, losses.min(0), losses.max(0), color=colour, alpha=0.25, linewidth=0)
        panel.plot(places, losses.mean(0), color=colour, linewidth=1.4)
        published = DYNAMICS[arm][layer, read]
        panel.plot(np.sqrt(np.array(DYNAMICS_EPOCHS)[read]), published, color=colour, marker="o", markersize=3, ls="")
    ticks = [tick for tick in _TICKS if tick <= last]
    panel.set_xticks([math.sqrt(tick) for tick in ticks], [str(tick) for tick in ticks])
    panel.set_xlim(-0.03 * math.sqrt(last), 1.03 * math.sqrt(last))
