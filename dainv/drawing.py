"""How every figure of the project looks: colours for light and dark paper, and the same bytes every time."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure


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
def style(theme: Theme) -> Iterator[None]:
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


def grid(axes: Axes, theme: Theme) -> None:
    """Faint horizontal lines behind the data."""
    axes.yaxis.grid(True, color=theme.faint, linewidth=0.8)
    axes.set_axisbelow(True)
