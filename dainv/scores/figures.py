"""Figures of scores: boxes by layer, a map of transformations by layer, and curves over strength."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from dainv.drawing import LIGHT, boxes, grid, name_layers, render, score_axes, style, write_numbers
from dainv.scores.curves import Axis
from dainv.scores.listening import INPUT
from dainv.scores.study import Study
from dainv.summaries import box, quartiles

_PANELS_IN_A_ROW = 3
_LOWEST = -0.6  # as in the published figure
_DEEPEST = -2.0  # whiskers are shown down to here
_MOST_IN_LEGEND = 24


def figures_of(study: Study) -> dict[str, bytes | None]:
    """File name -> content, each figure as PNG and SVG; None for one that was not asked for."""
    drawn = {
        "scores": scores_figure,
        "transformations": parts_figure if study.parts else None,
        "curves": curves_figure if study.axes else None,
    }
    return {
        f"{name}.{form}": None if draw is None else draw(study, form)
        for name, draw in drawn.items()
        for form in ("png", "svg")
    }


def scores_figure(study: Study, form: str) -> bytes:
    """Box plots of sigma at every layer, a colour a transformation that was asked for.

    Args:
        study: the scores.
        form: ``"png"`` or ``"svg"``.
    """
    with style():
        layers, names = study.scores.layers, study.transforms
        colours = [LIGHT.invariance, LIGHT.baseline, *LIGHT.more]
        width = 0.14 * len(layers) * max(2, len(names)) + 2
        figure = Figure(figsize=(min(30, max(7.2, width)), 3.7), layout="constrained")
        axes = figure.add_subplot()
        slot = 0.76 / max(len(names), 2)
        scored = [place for place, layer in enumerate(layers) if layer not in study.scores.unscored]
        for number, name in enumerate(names):
            shift, colour = (number - (len(names) - 1) / 2) * slot, colours[number % len(colours)]
            sigma = study.scores.scores(name).sigma
            found = [box(sigma[layers[place]]).drawn for place in scored]
            boxes(axes, found, [place + shift for place in scored], 0.84 * slot, colour)
        score_axes(axes, layers)
        axes.set_ylim(max(_DEEPEST, min(_LOWEST, axes.dataLim.y0 - 0.05)), 1.05)
        handles = [
            Patch(color=colours[number % len(colours)], label=name) for number, name in enumerate(study.transforms)
        ]
        axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1.01), ncols=min(len(names), 4), borderpad=0)
        return render(figure, form)


def parts_figure(study: Study, form: str) -> bytes:
    """A map of median sigma: a row a transformation, a column a layer.

    Args:
        study: the scores.
        form: ``"png"`` or ``"svg"``.
    """
    with style():
        layers, names = study.scores.layers, study.named
        medians = np.array(
            [[quartiles(values)["median"] for values in study.scores.scores(name).sigma.values()] for name in names]
        )
        figure = Figure(figsize=(min(30, max(5.5, 0.5 * len(layers) + 2.4)), 0.34 * len(names) + 1.6))
        figure.set_layout_engine("constrained")
        axes = figure.add_subplot()
        image = axes.imshow(medians, cmap="viridis", vmin=0, vmax=1, aspect="auto")
        write_numbers(axes, medians)
        axes.axvline(0.5, color=LIGHT.paper, linewidth=3)  # pixels | layers
        axes.axhline(len(study.transforms) - 0.5, color=LIGHT.paper, linewidth=3)  # asked for | alone
        axes.set_yticks(range(len(names)), names)
        axes.tick_params(axis="y", length=0)
        axes.spines[:].set_visible(False)
        name_layers(axes, layers)
        figure.colorbar(image, ax=axes, label="median σ", extend="min" if np.nanmin(medians) < 0 else "neither")
        return render(figure, form)


def curves_figure(study: Study, form: str) -> bytes:
    """Median sigma against strength with quartiles, a panel a transformation and a line a layer; pixels are dashed.

    Args:
        study: the scores.
        form: ``"png"`` or ``"svg"``.
    """
    with style():
        layers = [layer for layer in study.scores.layers if layer not in study.scores.unscored]
        depths = np.linspace(0, 0.92, max(1, len(layers) - 1))
        colours = {layer: colormaps["viridis"](depth) for layer, depth in zip(layers[1:], depths, strict=False)}
        rows = -(-len(study.axes) // _PANELS_IN_A_ROW)
        figure = Figure(figsize=(9.6, 2.9 * rows), layout="constrained")
        panels = figure.subplots(rows, _PANELS_IN_A_ROW, sharey=True, squeeze=False).ravel()
        for panel in panels[len(study.axes) :]:
            panel.set_visible(False)
        for axis, panel in zip(study.axes, panels, strict=False):
            _curves(panel, study, axis, layers, colours)
            grid(panel)
        lowest = min(panel.dataLim.y0 for panel in panels[: len(study.axes)])
        panels[0].set_ylim(max(_LOWEST, min(-0.05, lowest - 0.05)), 1.05)
        for panel in panels[::_PANELS_IN_A_ROW]:
            panel.set_ylabel("Invariance score σ")
        figure.legend(handles=_legend(layers, colours), loc="outside right upper", handlelength=1.8)
        return render(figure, form)


def _curves(
    panel: Axes,
    study: Study,
    axis: Axis,
    layers: Sequence[str],
    colours: dict[str, tuple[float, float, float, float]],
) -> None:
    found = [study.scores.scores(name).sigma for name in axis.augmentations("bilinear")]
    places = np.array([*axis.strengths, axis.identity])
    order = np.argsort(places)
    for layer in layers:
        middles = [*(quartiles(sigma[layer]) for sigma in found), dict.fromkeys(("q1", "median", "q3"), 1.0)]
        colour = colours.get(layer, LIGHT.ink)
        lower, median, upper = (np.array([middle[end] for middle in middles])[order] for end in ("q1", "median", "q3"))
        dashes = (0, (4, 2)) if layer == INPUT else "solid"
        panel.plot(places[order], median, color=colour, linewidth=1.4, linestyle=dashes, marker="o", markersize=2.5)
        panel.fill_between(places[order], lower, upper, color=colour, alpha=0.08, linewidth=0)
    panel.axhline(0, color=LIGHT.ink, linewidth=0.8, zorder=1)
    panel.set_title(axis.transformation)
    panel.set_xlabel(axis.unit)


def _legend(layers: Sequence[str], colours: dict[str, tuple[float, float, float, float]]) -> list[Line2D]:
    pixels = Line2D([], [], color=LIGHT.ink, linestyle=(0, (4, 2)), label="pixels")
    named = layers[1:]
    if len(named) > _MOST_IN_LEGEND:
        chosen = np.linspace(0, len(named) - 1, _MOST_IN_LEGEND).round().astype(int)
        named = [named[place] for place in chosen]
    return [pixels, *(Line2D([], [], color=colours[layer], linewidth=2, label=layer) for layer in named)]
