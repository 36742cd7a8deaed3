"""How every figure of the project looks: colours for light and dark paper, and the same bytes every time."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dainv.formatting import number

SCORE_LIMITS = (-0.6, 1.05)  # of the published Figure 1


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
    """

    ink: str
    faint: str
    paper: str
    baseline: str
    invariance: str
    more: tuple[str, ...]


# Red and blue as in the paper, near the tones of Okabe and Ito that colour-blind readers can tell apart, and of
# different lightness for those who print in grey. On dark paper all are lighter.
LIGHT = Theme(
    ink="#1a1a1a",
    faint="#e3e3e3",
    paper="#ffffff",
    baseline="#d95f1e",
    invariance="#00609c",
    more=("#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a6a00", "#555555"),
)
DARK = Theme(
    ink="#dddddd",
    faint="#3a3a3a",
    paper="#161616",
    baseline="#f0804a",
    invariance="#4fb0e8",
    more=("#2fc79a", "#dd99c0", "#f0b840", "#8fd0f5", "#c9b840", "#aaaaaa"),
)


@contextmanager
def style(theme: Theme = LIGHT) -> Iterator[None]:
    """Draw in a theme; matplotlib's own settings are as before afterwards."""
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


def render(figure: Figure, form: str) -> bytes:
    """A figure as a file that is the same bytes every time.

    Args:
        figure: drawn within :func:`style`, as saving it needs the theme too.
        form: ``"png"`` (200 dots an inch) or ``"svg"``.
    """
    file = io.BytesIO()
    metadata = {"Date": None, "Creator": None} if form == "svg" else {"Software": None}
    figure.savefig(file, format=form, dpi=200, metadata=metadata)
    return file.getvalue()


def grid(axes: Axes, theme: Theme = LIGHT) -> None:
    """Faint horizontal lines behind the data."""
    axes.yaxis.grid(True, color=theme.faint, linewidth=0.8)
    axes.set_axisbelow(True)


def name_layers(axes: Axes, layers: Sequence[str]) -> None:
    """Names of layers along the horizontal axis, aslant where they would not fit."""
    aslant = max(len(layer) for layer in layers) > 6 or len(layers) > 14
    axes.set_xticks(range(len(layers)), layers, rotation=40 if aslant else 0, ha="right" if aslant else "center")
    for label in axes.get_xticklabels() if aslant else ():
        label.set_rotation_mode("anchor")
    axes.tick_params(axis="x", length=0)


def score_axes(axes: Axes, layers: Sequence[str], theme: Theme = LIGHT) -> None:
    """Invariance scores by layer, of which the first is the pixels."""
    axes.axhline(0, color=theme.ink, linewidth=0.8, zorder=1)
    axes.axvline(0.5, color=theme.ink, linewidth=0.8, linestyle=(0, (1, 3)), zorder=1)  # pixels | layers
    axes.set_xlim(-0.6, len(layers) - 0.4)
    axes.set_ylabel("Invariance score σ")
    name_layers(axes, layers)
    grid(axes, theme)


def boxes(
    axes: Axes,
    found: Sequence[dict[str, Any]],
    places: Sequence[float],
    width: float,
    colour: str,
    theme: Theme = LIGHT,
    *,
    filled: bool = True,
    points: Sequence[Sequence[float]] = (),
) -> None:
    """Box plots in one colour, without what lies beyond the whiskers.

    Args:
        axes: where to draw.
        found: a box each, as ``Axes.bxp`` takes it.
        places: of the boxes.
        width: of a box.
        colour: of the boxes and whiskers.
        theme: colours.
        filled: or outlines only.
        points: values shown side by side in each box, such as the median of each run.
    """
    axes.bxp(
        list(found),
        positions=places,
        widths=width,
        patch_artist=True,
        showfliers=False,
        manage_ticks=False,
        capwidths=width / 2,
        boxprops={"facecolor": colour if filled else theme.paper, "edgecolor": colour, "linewidth": 0.8},
        medianprops={"color": theme.paper if filled else colour, "linewidth": 1.8, "solid_capstyle": "butt"},
        whiskerprops={"color": colour, "linewidth": 1.0},
        capprops={"color": colour, "linewidth": 1.0},
    )
    for place, values in zip(places, points, strict=False):
        axes.plot(
            place + np.linspace(-0.3, 0.3, len(values)) * width,
            values,
            linestyle="",
            marker="o",
            markersize=3,
            markerfacecolor=theme.paper,
            markeredgecolor=theme.ink,
            markeredgewidth=0.6,
            zorder=4,
        )


def write_numbers(axes: Axes, values: np.ndarray) -> None:
    """The numbers of a map from 0 to 1 in viridis, in the ink that each cell needs; a dash for NaN."""
    for row, column in np.ndindex(values.shape):
        value = values[row, column]
        ink = "black" if value > 0.6 or np.isnan(value) else "white"
        axes.text(column, row, number(value), ha="center", va="center", color=ink, size=8)
