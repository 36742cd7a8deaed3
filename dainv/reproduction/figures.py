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

from dainv.analysis.words import short_layer
from dainv.drawing import LIGHT, Theme, grid, render, style
from dainv.reproduction.evidence import Evidence, mean_box, mean_curves
from dainv.reproduction.published import ARMS, BASELINE, DYNAMICS, DYNAMICS_EPOCHS, INVARIANCE, LAYERS, SCORES, Box
from dainv.scores import INPUT

_LABELS = {BASELINE: "baseline", INVARIANCE: "data augmentation invariance"}
_LIMITS = (-0.6, 1.05)  # as wide as the published figure
_TICKS = (0, 1, 3, 5, 10, 20, 50, 100, 200, 349)

Arms = Mapping[str, Sequence[Evidence]]


def scores_figure(arms: Arms, form: str, theme: Theme = LIGHT) -> bytes:
    """Figure 1: at each layer the published box, pale, beside ours, for both arms.

    Args:
        arms: arm -> its runs, whose five numbers are averaged over seeds; a dot is the median of a seed.
        form: ``"png"`` or ``"svg"``.
        theme: colours.
    """
    with style(theme):
        figure = Figure(figsize=(9.6, 4.0), layout="constrained")
        axes = figure.add_subplot()
        names = (INPUT, *LAYERS)
        handles = []
        for number, arm in enumerate(ARMS):
            colour = theme.baseline if arm == BASELINE else theme.invariance
            places = -0.3 + 0.4 * number
            _boxes(axes, dict(zip(LAYERS, SCORES[arm], strict=True)), names, places, colour, theme, pale=True)
            ours = {
                layer: mean_box([run.boxes[layer] for run in arms[arm]])
                for layer in names
                if all(layer in run.boxes for run in arms[arm])
            }
            _boxes(axes, ours, names, places + 0.18, colour, theme, pale=False)
            if len(arms[arm]) > 1:
                for run in arms[arm]:
                    medians = [run.boxes[layer].median for layer in ours]
                    axes.plot(
                        [names.index(layer) + places + 0.18 for layer in ours], medians, ".", color=theme.ink, ms=2.5
                    )
            handles += [
                Patch(facecolor=theme.paper, edgecolor=colour, label=f"{_LABELS[arm]}, published"),
                Patch(facecolor=colour, edgecolor=colour, label=f"{_LABELS[arm]}, here"),
            ]
        axes.axhline(0, color=theme.ink, linewidth=0.8, zorder=1)
        axes.axvline(0.5, color=theme.ink, linewidth=0.8, linestyle=(0, (1, 3)), zorder=1)  # pixels | layers
        axes.set_xlim(-0.6, len(names) - 0.4)
        lowest = min(box.whisker_low for runs in arms.values() for run in runs for box in run.boxes.values())
        axes.set_ylim(min(_LIMITS[0], lowest - 0.05), _LIMITS[1])
        axes.set_xticks(range(len(names)), [short_layer(layer) for layer in names])
        axes.tick_params(axis="x", length=0)
        grid(axes, theme)
        axes.set_xlabel("Layer")
        axes.set_ylabel("Invariance score σ")
        axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1.01), ncols=2, borderpad=0)
        return render(figure, form)


def _boxes(
    axes: Axes, boxes: Mapping[str, Box], names: Sequence[str], shift: float, colour: str, theme: Theme, *, pale: bool
) -> None:
    axes.bxp(
        [
            {"med": box.median, "q1": box.q1, "q3": box.q3, "whislo": box.whisker_low, "whishi": box.whisker_high}
            for box in boxes.values()
        ],
        positions=[names.index(layer) + shift for layer in boxes],
        widths=0.16,
        patch_artist=True,
        showfliers=False,
        manage_ticks=False,
        capwidths=0.07,
        boxprops={"facecolor": theme.paper if pale else colour, "edgecolor": colour, "linewidth": 0.9},
        medianprops={"color": colour if pale else theme.paper, "linewidth": 1.6, "solid_capstyle": "butt"},
        whiskerprops={"color": colour, "linewidth": 0.9},
        capprops={"color": colour, "linewidth": 0.9},
    )


def dynamics_figure(arms: Arms, form: str, theme: Theme = LIGHT) -> bytes:
    """Figure 2: the published invariance losses above, ours below, an arm a column.

    An epoch stands at its square root, which widens the first ones; epochs are counted from 0 as in the paper.

    Args:
        arms: arm -> its runs, averaged over seeds; a band is their range.
        form: ``"png"`` or ``"svg"``.
        theme: colours.
    """
    with style(theme):
        colours = [colormaps["viridis"](place) for place in np.linspace(0.0, 0.92, len(LAYERS))]
        figure = Figure(figsize=(9.6, 6.4), layout="constrained")
        panels = figure.subplots(2, len(ARMS), sharey=True)
        for column, arm in enumerate(ARMS):
            _curves(panels[0, column], np.array(DYNAMICS_EPOCHS), DYNAMICS[arm].T, None, colours)
            runs = arms[arm]
            mean = mean_curves(runs)
            every = np.array([run.curves[: len(mean)] for run in runs])
            band = (every.min(0), every.max(0)) if len(runs) > 1 else None
            _curves(panels[1, column], np.arange(len(mean)), mean, band, colours)
            panels[0, column].set_title(f"{_LABELS[arm]}, published")
            panels[1, column].set_title(f"{_LABELS[arm]}, here")
            panels[1, column].set_xlabel("Epoch")
        for panel in panels.ravel():
            grid(panel, theme)
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
    panel: Axes,
    epochs: np.ndarray,
    losses: np.ndarray,
    band: tuple[np.ndarray, np.ndarray] | None,
    colours: Sequence[tuple[float, float, float, float]],
) -> None:
    places = np.sqrt(epochs)
    marker = "o" if len(epochs) <= 12 else ""
    for layer, colour in enumerate(colours[: losses.shape[1]]):
        if band is not None:
            panel.fill_between(places, band[0][:, layer], band[1][:, layer], color=colour, alpha=0.25, linewidth=0)
        panel.plot(places, losses[:, layer], color=colour, marker=marker, markersize=3, linewidth=1.4)
    last = max(1, int(epochs[-1]))
    ticks = [tick for tick in _TICKS if tick <= last]
    panel.set_xticks([math.sqrt(tick) for tick in ticks], [str(tick) for tick in ticks])
    panel.set_xlim(-0.03 * math.sqrt(last), 1.03 * math.sqrt(last))
