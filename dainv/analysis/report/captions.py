"""What stands below the figures, and what is said to those who do not see them."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from dainv.analysis.results import Arm
from dainv.formatting import number, short_layer

_LOSS_DEFINITIONS = {
    "pairs": "the mean distance between two views of the same image, divided by the mean distance between any two "
    "samples of the batch, self-pairs left out: 0 for perfect invariance, about 1 where views of an image are no "
    "closer to each other than to anything else",
    "printed": "Eq. 3 to the letter, self-pairs counted: 0 for perfect invariance; the scale grows with the number of "
    "source images in a batch",
}


def scores_alt(arms: Sequence[Arm]) -> str:
    """Figure 1 in words: the medians."""
    medians = (
        f"{arm.label}: " + ", ".join(f"{short_layer(layer)} {number(box.median)}" for layer, box in arm.boxes.items())
        for arm in arms
    )
    return f"Box plots of the invariance score by layer. Medians of {'; '.join(medians)}."


def scores_caption(arms: Sequence[Arm]) -> str:
    """What Figure 1 shows."""
    source = arms[0].runs[0].source
    several = (
        " Of an arm with several runs, a box is the mean of their boxes, and points are the medians of each."
        if any(arm.n > 1 for arm in arms)
        else ""
    )
    return (
        "<b>Figure 1.</b> Distribution of the invariance score σ (Eq. 2) at the pixels (input) and after "
        f"each layer, over {source.images:,} test images × {source.repeats} transformations. Box: first to third "
        "quartile; line: median; whiskers: the last score within 1.5 interquartile ranges of the box; scores beyond "
        f"are not drawn.{several} The boxes of a layer stand in the order of the legend. At 1 a layer does not see the "
        "transformation; at 0 a transformed image is as far from the original as another image is on average."
    )


def dynamics_alt(arms: Sequence[Arm]) -> str:
    """Figure 2 in words: both ends of every curve, and where it turned."""
    parts = []
    for arm in arms:
        dynamics = arm.dynamics.mean
        ends = []
        for column, layer in enumerate(dynamics.layers):
            curve, turns = dynamics.train[:, column], dynamics.turning_epochs(layer)
            turned = f", turning at epoch {' and '.join(map(str, turns))}" if turns else ""
            first = number(curve[dynamics.first_mean])
            ends.append(f"layer {short_layer(layer)} {first} to {number(curve[-1])}{turned}")
        parts.append(f"{arm.label}: {'; '.join(ends)}")
    return f"Maps and curves of the invariance loss by layer and epoch, first to last epoch. {'. '.join(parts)}."


def dynamics_caption(arms: Sequence[Arm]) -> str:
    """What Figure 2 shows."""
    several = (
        " Of several runs, lines are means and bands reach from the lowest to the highest run (training batches; test "
        "accuracy)."
        if any(arm.n > 1 for arm in arms)
        else ""
    )
    return (
        "<b>Figure 2.</b> Invariance loss of each layer during training: above as a map of layers and epochs, below "
        "layer by layer, with the accuracy in the last panel. Solid: mean over the training batches of an epoch; at "
        "epoch 0 the first batch, before any update. Dashed: the control batch, the same test images and views after "
        f"every epoch, in evaluation mode (in the last panel: all test images as they are).{several} Points: where the "
        "loss on training batches turned from one phase to the next. An epoch stands at its square root, which widens "
        f"the first ones. The loss is {loss_definition(arms)}."
    )


def loss_definition(arms: Sequence[Arm]) -> str:
    """What the invariance loss is, by the normalisation of each arm."""
    kinds = {arm.label: arm.runs[0].config["settings"]["normalization"] for arm in arms}
    if len(set(kinds.values())) == 1:
        return escape(_LOSS_DEFINITIONS[next(iter(kinds.values()))])
    return escape("; ".join(f"for {label} {_LOSS_DEFINITIONS[kind]}" for label, kind in kinds.items()))
