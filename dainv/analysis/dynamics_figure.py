"""Figure 2: the invariance loss over layers and epochs as in the paper, and layer by layer with its turning points."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D

from dainv.analysis.results import Arm, all_layers
from dainv.analysis.scores_figure import arm_colours
from dainv.drawing import LIGHT, Theme, grid, render, style
from dainv.formatting import short_layer
from dainv.scores import INPUT

_MAPS_IN_A_ROW = 2
_PANELS_IN_A_ROW = 5
_DASHES = (0, (4, 2))


def epoch_ticks(last: int, room: float = 1.0) -> list[int]:
    """Epochs to name on an axis where epoch e stands at the square root of e: both ends and round ones between.

    Args:
        last: the last epoch.
        room: how much of the usual room a number needs; more on a narrow axis.
    """
    if last < 1:
        return [0]
    chosen = [0, last]
    exponents = range(int(math.log10(last)), -1, -1)
    for epoch in (factor * 10**exponent for exponent in exponents for factor in (5, 2, 1)):
        place = math.sqrt(epoch / last)
        apart = room * (0.025 + 0.027 * len(str(epoch)))  # of the axis, so that the numbers do not touch
        if epoch < last and all(abs(place - math.sqrt(other / last)) >= apart for other in chosen):
            chosen.append(epoch)
    return sorted(chosen)


def dynamics_figure(arms: Sequence[Arm], form: str, theme: Theme = LIGHT) -> bytes:
    """Figure 2: a map a arm of layers x epochs, then a panel a layer with all arms, then their accuracy.

    Epochs stand at their square roots, which widens the first ones. Of several runs, lines are means and bands reach
    from the lowest to the highest. A point marks a turning point of the loss on training batches.

    Args:
        arms: their layers are taken together by name.
        form: ``"png"`` or ``"svg"``.
        theme: colours.
    """
    with style(theme):
        layers = [layer for layer in all_layers(arms) if layer != INPUT]
        map_rows = -(-len(arms) // _MAPS_IN_A_ROW)
        panel_rows = -(-(len(layers) + 1) // _PANELS_IN_A_ROW)
        heights = [(0.8 + 0.16 * max(9, len(layers))) * map_rows, 0.8 + 1.4 * panel_rows + 0.17 * -(-len(arms) // 3)]
        figure = Figure(figsize=(7.2, sum(heights)), layout="constrained")
        halves = figure.subfigures(2, 1, height_ratios=heights, squeeze=False).ravel()
        _maps(halves[0], arms, theme)
        _panels(halves[1], arms, layers, theme)
        return render(figure, form)


def _highest(arms: Sequence[Arm]) -> float:
    """The highest loss."""
    return max(float(max(arm.dynamics.high.train.max(), arm.dynamics.high.control.max())) for arm in arms)


def _epoch_axis(axes: Axes, last: int, room: float = 1.0) -> None:
    ticks = epoch_ticks(last, room)
    axes.set_xticks([math.sqrt(epoch) for epoch in ticks], [str(epoch) for epoch in ticks])


def _maps(figure: SubFigure, arms: Sequence[Arm], theme: Theme) -> None:
    columns = min(len(arms), _MAPS_IN_A_ROW)
    rows = -(-len(arms) // columns)
    panels = figure.subplots(rows, columns, squeeze=False)
    shown = list(panels.ravel())[: len(arms)]
    for panel in list(panels.ravel())[len(arms) :]:
        panel.set_visible(False)
    top = _highest(arms) if _highest(arms) > 1.1 else 1.0  # as published, but for a loss well above it
    for arm, panel in zip(arms, shown, strict=True):
        dynamics = arm.dynamics.mean
        mesh = panel.pcolormesh(
            _edges(dynamics.epochs),
            np.arange(len(dynamics.layers) + 1) - 0.5,
            dynamics.train.T,
            cmap="viridis",
            vmin=0,
            vmax=top,
            rasterized=True,
        )
        for row, layer in enumerate(dynamics.layers):
            for epoch in dynamics.turning_epochs(layer):
                panel.plot(math.sqrt(epoch), row, "o", color="white", markeredgecolor="black", markersize=3.2, mew=0.6)
        panel.set_yticks(range(len(dynamics.layers)), [short_layer(layer) for layer in dynamics.layers])
        panel.invert_yaxis()
        panel.tick_params(length=0)
        _epoch_axis(panel, int(dynamics.epochs[-1]), room=1.3)
        panel.set_title(arm.label + (f" (mean of {arm.n})" if arm.n > 1 else ""))
    for panel in shown[-columns:]:
        panel.set_xlabel("Epoch")
    for panel in shown[::columns]:
        panel.set_ylabel("Layer")
    bar = figure.colorbar(mesh, ax=list(panels.ravel()), shrink=0.9, aspect=22, pad=0.02)
    bar.set_label(r"Invariance loss $\mathcal{L}_{inv}$")
    bar.outline.set_visible(False)


def _edges(epochs: np.ndarray) -> np.ndarray:
    """Where the cells of epochs begin and end, at the square roots of the epochs between."""
    middles = (epochs[:-1] + epochs[1:]) / 2
    return np.sqrt(np.concatenate([[epochs[0]], middles, [epochs[-1] + (0.5 if len(epochs) > 1 else 1)]]))


def _panels(figure: SubFigure, arms: Sequence[Arm], layers: Sequence[str], theme: Theme) -> None:
    rows = -(-(len(layers) + 1) // _PANELS_IN_A_ROW)
    panels = list(figure.subplots(rows, _PANELS_IN_A_ROW, sharex=True, squeeze=False).ravel())
    colours = arm_colours(arms, theme)
    top = 1.05 * _highest(arms) or 1.0
    last = max(int(arm.dynamics.mean.epochs[-1]) for arm in arms)
    for panel, layer in zip(panels, layers, strict=False):
        for arm, colour in zip(arms, colours, strict=True):
            if layer in arm.dynamics.mean.layers:
                _layer(panel, arm, layer, colour, theme)
        panel.set_ylim(0, top)
        name = short_layer(layer)
        panel.set_title(f"Layer {name}" if len(name) <= 6 else name, fontsize=8, pad=3)
    for arm, colour in zip(arms, colours, strict=True):
        _accuracy(panels[len(layers)], arm, colour)
    panels[len(layers)].set_title("Accuracy", fontsize=8, pad=3)
    for panel in panels[: len(layers) + 1]:
        grid(panel, theme)
        panel.tick_params(labelsize=7, length=2)
    for number, panel in enumerate(panels):
        panel.set_visible(number <= len(layers))
        beneath = number + _PANELS_IN_A_ROW
        if beneath > len(layers):
            panel.set_xlabel("Epoch", fontsize=8)
        panel.tick_params(labelbottom=beneath > len(layers))
        panel.tick_params(labelleft=number % _PANELS_IN_A_ROW == 0 and number < len(layers))
    _epoch_axis(panels[0], last, room=2.6)
    panels[0].set_xlim(-0.03 * math.sqrt(max(last, 1)), 1.03 * math.sqrt(max(last, 1)))
    figure.supylabel(r"Invariance loss $\mathcal{L}_{inv}$", fontsize=9)
    _legends(figure, arms, colours, theme)


def _legends(figure: SubFigure, arms: Sequence[Arm], colours: Sequence[str], theme: Theme) -> None:
    """The arms above the panels, what the kinds of line mean below."""
    handles = [
        Line2D([], [], color=colour, linewidth=2, label=arm.label) for arm, colour in zip(arms, colours, strict=True)
    ]
    kinds = [
        Line2D([], [], color=theme.ink, linewidth=1.3, label="training batches"),
        Line2D([], [], color=theme.ink, linewidth=0.9, linestyle=_DASHES, label="control batch, test images"),
    ]
    if any(arm.dynamics.mean.turning_epochs(layer) for arm in arms for layer in arm.dynamics.mean.layers):
        kinds.append(Line2D([], [], color=theme.ink, marker="o", markersize=3.5, linestyle="", label="turning point"))
    figure.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 3), fontsize=8)
    figure.legend(handles=kinds, loc="outside lower center", ncols=len(kinds), fontsize=8)


def _layer(panel: Axes, arm: Arm, layer: str, colour: str, theme: Theme) -> None:
    """The loss of a layer in one arm, with its turning points."""
    mean, low, high = arm.dynamics
    column = mean.layers.index(layer)
    places = np.sqrt(mean.epochs)
    if arm.n > 1:
        panel.fill_between(places, low.train[:, column], high.train[:, column], color=colour, alpha=0.25, linewidth=0)
    panel.plot(places, mean.control[:, column], color=colour, linewidth=0.8, linestyle=_DASHES, alpha=0.85, zorder=2)
    panel.plot(places, mean.train[:, column], color=colour, linewidth=1.3, zorder=3)
    turns = [int(np.searchsorted(mean.epochs, epoch)) for epoch in mean.turning_epochs(layer)]
    panel.plot(
        places[turns],
        mean.train[turns, column],
        linestyle="",
        marker="o",
        markersize=3.5,
        color=colour,
        markeredgecolor=theme.paper,
        markeredgewidth=0.5,
        zorder=4,
    )


def _accuracy(panel: Axes, arm: Arm, colour: str) -> None:
    """Accuracy on training batches, but for the one before any update, and on the test images."""
    mean, low, high = arm.dynamics
    places = np.sqrt(mean.epochs)
    if arm.n > 1:
        panel.fill_between(places, low.test_accuracy, high.test_accuracy, color=colour, alpha=0.25, linewidth=0)
    panel.plot(places, mean.test_accuracy, color=colour, linewidth=0.8, linestyle=_DASHES)
    panel.plot(places, mean.train_accuracy, color=colour, linewidth=1.3)
    panel.set_ylim(0, 1.02)
    panel.yaxis.tick_right()
    panel.spines["right"].set_visible(True)
    panel.spines["left"].set_visible(False)
