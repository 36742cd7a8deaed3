"""Figure 1: box plots of the invariance score at every layer, on the scale of the published figure."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from dainv.analysis.results import Arm, all_layers
from dainv.drawing import LIGHT, SCORE_LIMITS, Theme, boxes, render, score_axes, style
from dainv.formatting import short_layer


def arm_colours(arms: Sequence[Arm], theme: Theme = LIGHT) -> list[str]:
    """A colour an arm: the paper's for the first baseline and the first arm with the invariance losses."""
    colours = []
    own = {True: theme.baseline, False: theme.invariance}
    more = 0
    for arm in arms:
        if arm.is_baseline in own:
            colours.append(own.pop(arm.is_baseline))
        else:
            colours.append(theme.more[more % len(theme.more)])
            more += 1
    return colours


def scores_figure(arms: Sequence[Arm], form: str, theme: Theme = LIGHT) -> bytes:
    """Figure 1, the boxes of the arms side by side.

    The box of an arm with several runs is the mean of their boxes, and points show the median of each run.

    Args:
        arms: their layers are taken together by name; an arm has no box at a layer that it does not have.
        form: ``"png"`` or ``"svg"``.
        theme: colours.
    """
    with style(theme):
        layers = all_layers(arms)
        figure = Figure(figsize=(max(7.2, 0.14 * len(arms) * len(layers) + 2), 3.7), layout="constrained")
        axes = figure.add_subplot()
        low, high = SCORE_LIMITS
        slot = 0.76 / max(len(arms), 2)
        for number, (arm, colour) in enumerate(zip(arms, arm_colours(arms, theme), strict=True)):
            shift = (number - (len(arms) - 1) / 2) * slot
            places = [place for place, layer in enumerate(layers) if layer in arm.boxes]
            found = [arm.boxes[layers[place]].drawn for place in places]
            medians = [arm.medians_of_runs(layers[place]) for place in places] if arm.n > 1 else []
            boxes(axes, found, [place + shift for place in places], 0.84 * slot, colour, theme, points=medians)
            for place, layer in enumerate(layers):
                if layer in arm.layers and layer not in arm.boxes:
                    axes.text(place + shift, 0.02, "no score", rotation=90, ha="center", va="bottom", color=colour)
            low = min([low, *(box.whisker_low - 0.05 for box in arm.boxes.values())])
        score_axes(axes, [short_layer(layer) for layer in layers], theme)
        axes.set_ylim(low, high)
        axes.set_xlabel("Layer")
        handles = [
            Patch(facecolor=colour, edgecolor=colour, label=arm.title)
            for arm, colour in zip(arms, arm_colours(arms, theme), strict=True)
        ]
        axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1.01), ncols=min(len(arms), 3), borderpad=0)
        return render(figure, form)
