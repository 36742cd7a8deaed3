"""Figures 1 and 2, drawn without any global state of matplotlib and in the same bytes every time."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from dainv.analysis.results import AnalyzedRun, short_layer
from dainv.scores import INPUT

_SCORE_LIMITS = (-0.6, 1.05)  # as wide as the published figure
_PANELS_IN_A_ROW = 3


@dataclass(frozen=True)
class Theme:
    """Colours of a figure.

    Attributes:
        ink: text and axes.
        faint: grid.
        paper: background.
        baseline: colour of the baseline.
        invariance: colour of data augmentation invariance.
        more: colours where the runs are neither one of each.
        depth: part of the colour map that layers are taken from, first to last.
    """

    ink: str
    faint: str
    paper: str
    baseline: str
    invariance: str
    more: tuple[str, ...]
    depth: tuple[float, float]


# Red and blue as in the paper, near the tones of Okabe and Ito that colour-blind readers can tell apart, and of
# different lightness for those who print in grey. On dark paper all are lighter.
LIGHT = Theme(
    ink="#1a1a1a",
    faint="#e3e3e3",
    paper="#ffffff",
    baseline="#d95f1e",
    invariance="#00609c",
    more=("#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a6a00", "#555555"),
    depth=(0.0, 0.92),
)
DARK = Theme(
    ink="#dddddd",
    faint="#3a3a3a",
    paper="#161616",
    baseline="#f0804a",
    invariance="#4fb0e8",
    more=("#2fc79a", "#dd99c0", "#f0b840", "#8fd0f5", "#c9b840", "#aaaaaa"),
    depth=(0.2, 1.0),
)


@contextmanager
def _style(theme: Theme) -> Iterator[None]:
    settings: dict[Any, Any] = {  # matplotlib's own type, a literal for every key, came late
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: the same letters on every machine
        "font.size": 9,
        "axes.labelsize": 10,
        "axes.titlesize": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.8,
        "axes.edgecolor": theme.ink,
        "axes.labelcolor": theme.ink,
        "axes.facecolor": theme.paper,
        "figure.facecolor": theme.paper,
        "savefig.facecolor": theme.paper,
        "text.color": theme.ink,
        "xtick.color": theme.ink,
        "ytick.color": theme.ink,
        "legend.frameon": False,
        "svg.hashsalt": "dainv",
        "svg.fonttype": "path",
    }
    with matplotlib.rc_context(settings):
        yield


def _render(figure: Figure, form: str) -> bytes:
    file = io.BytesIO()
    metadata = {"Date": None, "Creator": None} if form == "svg" else {"Software": None}
    figure.savefig(file, format=form, dpi=200, metadata=metadata)
    return file.getvalue()


def run_colours(runs: Sequence[AnalyzedRun], theme: Theme = LIGHT) -> list[str]:
    """A colour a run: the paper's for the first baseline and the first run with the invariance losses."""
    colours = []
    own = {True: theme.baseline, False: theme.invariance}
    more = 0
    for run in runs:
        if run.is_baseline in own:
            colours.append(own.pop(run.is_baseline))
        else:
            colours.append(theme.more[more % len(theme.more)])
            more += 1
    return colours


def scores_figure(runs: Sequence[AnalyzedRun], form: str, theme: Theme = LIGHT) -> bytes:
    """Figure 1: box plots of the invariance score at every layer.

    Args:
        runs: runs with the same layers; their boxes stand side by side.
        form: ``"png"`` or ``"svg"``.
        theme: colours.
    """
    with _style(theme):
        layers = runs[0].layers
        figure = Figure(figsize=(max(7.2, 0.14 * len(runs) * len(layers) + 2), 3.7), layout="constrained")
        axes = figure.add_subplot()
        low, high = _SCORE_LIMITS
        slot = 0.76 / max(len(runs), 2)
        for number, (run, colour) in enumerate(zip(runs, run_colours(runs, theme), strict=True)):
            shift = (number - (len(runs) - 1) / 2) * slot
            _boxes(axes, run, layers, shift, 0.84 * slot, colour, theme)
            for place, layer in enumerate(layers):
                if layer not in run.summaries:
                    axes.text(place + shift, 0.02, "constant", rotation=90, ha="center", va="bottom", color=colour)
            low = min([low, *(summary.whisker_low - 0.05 for summary in run.summaries.values())])
        axes.axhline(0, color=theme.ink, linewidth=0.8, zorder=1)
        axes.axvline(0.5, color=theme.ink, linewidth=0.8, linestyle=(0, (1, 3)), zorder=1)  # pixels | layers
        axes.set_xlim(-0.6, len(layers) - 0.4)
        axes.set_ylim(low, high)
        names = [short_layer(layer) for layer in layers]
        axes.set_xticks(range(len(layers)), names, rotation=0 if max(map(len, names)) <= 6 else 40)
        axes.tick_params(axis="x", length=0)
        axes.yaxis.grid(True, color=theme.faint, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.set_xlabel("Layer")
        axes.set_ylabel("Invariance score σ")
        handles = [
            Patch(facecolor=colour, edgecolor=colour, label=run.label)
            for run, colour in zip(runs, run_colours(runs, theme), strict=True)
        ]
        axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1.01), ncols=min(len(runs), 3), borderpad=0)
        return _render(figure, form)


def _boxes(
    axes: Axes, run: AnalyzedRun, layers: Sequence[str], shift: float, width: float, colour: str, theme: Theme
) -> None:
    places = [place for place, layer in enumerate(layers) if layer in run.summaries]
    boxes = [
        {"med": s.median.value, "q1": s.q1, "q3": s.q3, "whislo": s.whisker_low, "whishi": s.whisker_high}
        for s in (run.summaries[layers[place]] for place in places)
    ]
    axes.bxp(
        boxes,
        positions=[place + shift for place in places],
        widths=width,
        patch_artist=True,
        showfliers=False,
        manage_ticks=False,
        capwidths=width / 2,
        boxprops={"facecolor": colour, "edgecolor": colour, "linewidth": 0.8},
        medianprops={"color": theme.paper, "linewidth": 1.8, "solid_capstyle": "butt"},
        whiskerprops={"color": colour, "linewidth": 1.0},
        capprops={"color": colour, "linewidth": 1.0},
    )


def epoch_ticks(last: int) -> list[int]:
    """Epochs to name on an axis where epoch e stands at the square root of e: both ends and round ones between."""
    if last < 1:
        return [0]
    chosen = [0, last]
    exponents = range(int(math.log10(last)), -1, -1)
    for epoch in (factor * 10**exponent for exponent in exponents for factor in (5, 2, 1)):
        place = math.sqrt(epoch / last)
        room = 0.025 + 0.027 * len(str(epoch))  # of the axis, so that the numbers do not touch
        if epoch < last and all(abs(place - math.sqrt(other / last)) >= room for other in chosen):
            chosen.append(epoch)
    return sorted(chosen)


def dynamics_figure(runs: Sequence[AnalyzedRun], form: str, theme: Theme = LIGHT) -> bytes:
    """Figure 2: the invariance loss of every layer over the epochs, a panel a run.

    Epochs stand at their square roots, which widens the first ones.

    Args:
        runs: runs with the same layers.
        form: ``"png"`` or ``"svg"``.
        theme: colours.
    """
    with _style(theme):
        layers = [layer for layer in runs[0].layers if layer != INPUT]
        depth = np.linspace(*theme.depth, num=len(layers)) if len(layers) > 1 else np.array([theme.depth[0]])
        colours = [colormaps["viridis"](place) for place in depth]
        columns = min(len(runs), _PANELS_IN_A_ROW)
        rows = -(-len(runs) // columns)
        figure = Figure(figsize=(max(7.2, 2.7 * columns + 1), 3.5 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
        top = max(float(np.max([run.dynamics.train.max(), run.dynamics.control.max()])) for run in runs)
        for panel in panels[len(runs) :]:
            panel.set_visible(False)
        for run, panel in zip(runs, panels, strict=False):
            _curves(panel, run, layers, colours)
            panel.set_title(run.label)
            panel.set_ylim(0, 1.05 * top if top > 0 else 1)
            panel.yaxis.grid(True, color=theme.faint, linewidth=0.8)
            panel.set_axisbelow(True)
            panel.set_xlabel("Epoch")
        for panel in panels[::columns]:
            panel.set_ylabel(r"Invariance loss $\mathcal{L}_{inv}$")
        lines = [
            Line2D([], [], color=colour, linewidth=2, label=short_layer(layer))
            for layer, colour in zip(layers, colours, strict=True)
        ]
        figure.legend(handles=lines, title="Layer", loc="outside right upper", handlelength=1.4, labelspacing=0.35)
        kinds = [
            Line2D([], [], color=theme.ink, linewidth=1.5, label="training batches"),
            Line2D([], [], color=theme.ink, linewidth=0.9, linestyle=(0, (4, 2)), label="control batch"),
        ]
        figure.legend(handles=kinds, loc="outside lower center", ncols=2)
        return _render(figure, form)


def _curves(
    panel: Axes, run: AnalyzedRun, layers: Sequence[str], colours: Sequence[tuple[float, float, float, float]]
) -> None:
    places = np.sqrt(run.dynamics.epochs)
    marker = "o" if len(places) <= 12 else ""  # few epochs are points, many are curves
    thick, thin = (1.5, 0.8) if len(places) <= 100 else (1.1, 0.5)
    for layer, colour in zip(layers, colours, strict=True):
        column = run.dynamics.layers.index(layer)
        panel.plot(
            places,
            run.dynamics.control[:, column],
            color=colour,
            linewidth=thin,
            linestyle=(0, (5, 2.5)),
            alpha=0.8,
            marker=marker,
            markersize=3,
            markerfacecolor="none",
            zorder=2,
        )
        panel.plot(
            places, run.dynamics.train[:, column], color=colour, marker=marker, markersize=3, linewidth=thick, zorder=3
        )
    last = int(run.dynamics.epochs[-1])
    ticks = epoch_ticks(last)
    panel.set_xticks([math.sqrt(epoch) for epoch in ticks], [str(epoch) for epoch in ticks])
    panel.set_xlim(-0.02 * math.sqrt(max(last, 1)), 1.02 * math.sqrt(max(last, 1)))
