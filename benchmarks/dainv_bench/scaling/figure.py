"""The figure of ``dainv-bench scaling``: a panel an axis, both scales logarithmic, so that a power law is a line."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from dainv.drawing import LIGHT, grid, render, style
from dainv_bench.scaling.results import AxisResult, ScalingResult

_PANELS_IN_A_ROW = 3
_MARKERS = "osD^v"
# A method has the same colour in every panel, ours that of the paper's invariance networks.
_COLOURS = {
    **dict.fromkeys(("ours", "torch", "streaming", "local statistics"), LIGHT.invariance),
    "triton": LIGHT.more[0],
    "published": LIGHT.baseline,
    "closed-form": LIGHT.more[1],
}


def scaling_figure(result: ScalingResult, form: str) -> bytes:
    """Medians over each axis with their range of rounds, and the fitted power laws with their exponents.

    Args:
        result: as ``dainv-bench scaling`` wrote it.
        form: ``"png"`` or ``"svg"``.
    """
    axes = {name: axis for name, axis in result["axes"].items() if _run(axis)}
    with style(LIGHT):
        columns = max(1, min(len(axes), _PANELS_IN_A_ROW))
        rows = max(1, -(-len(axes) // columns))
        figure = Figure(figsize=(max(7.2, 3.4 * columns), 3.6 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for panel in panels[len(axes) :]:
            panel.set_visible(False)
        for (name, axis), panel in zip(axes.items(), panels, strict=False):
            _panel(panel, name, axis)
        for panel in panels[: len(axes) : columns]:
            panel.set_ylabel("milliseconds")
        return render(figure, form)


def _run(axis: AxisResult) -> dict[str, Any]:
    """The methods that were run."""
    return {name: method for name, method in axis["methods"].items() if method["not_run"] is None}


def _panel(panel: Axes, name: str, axis: AxisResult) -> None:
    x = np.asarray(axis["values"], dtype=float)
    for number, (method, one) in enumerate(_run(axis).items()):
        colour = _COLOURS.get(method, LIGHT.more[-1])
        low, middle, high = np.quantile(np.asarray(one["milliseconds"]), [0.25, 0.5, 0.75], axis=1)
        growth = one["growth"]
        label = f"{method}, exponent {growth['exponent']:.2f}" if growth else method
        panel.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
        panel.plot(x, middle, _MARKERS[number % len(_MARKERS)], color=colour, markersize=4, zorder=3, label=label)
        if growth:
            fitted = growth["milliseconds_at_one"] * x ** growth["exponent"]
            panel.plot(x, fitted, color=colour, linewidth=1.1, zorder=2)
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xticks(x, [f"{value:g}" if value < 1e4 else f"{value / 1024:g}k" for value in axis["values"]])
    panel.xaxis.set_minor_locator(NullLocator())
    low, high = panel.get_ylim()
    widening = max(1.0, 10 * low / high) ** 0.5  # to a decade at least, so that noise does not look like growth
    panel.set_ylim(low / widening, high * widening)
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high * widening**2 / low < 300 else (1,)))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _place: f"{value:g}"))
    panel.yaxis.set_minor_locator(NullLocator())
    grid(panel, LIGHT)
    panel.set_xlabel(f"{name}, {axis['meaning']}")
    panel.legend(loc="lower left", bbox_to_anchor=(0, 1.0), fontsize=8, borderpad=0, labelspacing=0.25)
