"""Evidence for the tests of the reproduction: the paper's own numbers, or made-up ones, as if they were measured."""

import numpy as np

from dainv.reproduction.evidence import Evidence
from dainv.reproduction.published import ACCURACY, ARMS, DYNAMICS, DYNAMICS_EPOCHS, EPOCHS, LAYERS, SCORES
from dainv.summaries import Box, Estimate

PIXELS = Box(0.3, 0.5, 0.62, -0.1, 0.97)  # the published figure's box at the input was not read off


def every_epoch(arm, until=EPOCHS):
    """The published curves, drawn straight between the epochs that were read off."""
    return np.stack([np.interp(range(until), DYNAMICS_EPOCHS, layer) for layer in DYNAMICS[arm]], axis=1)


def published(arm, seed=0, **changes):
    """The published run, with medians that are known to .001."""
    boxes = {"input": PIXELS, **dict(zip(LAYERS, SCORES[arm], strict=True))}
    share = ACCURACY[arm] / 100
    values = {
        "name": f"{arm}-seed{seed}",
        "arm": arm,
        "seed": seed,
        "epochs": 350,
        "accuracy": Estimate(share, share - 0.006, share + 0.006),
        "n_test": 10_000,
        "guessing": 0.1,
        "boxes": boxes,
        "curves": every_epoch(arm),
        **changes,
    }
    spread = np.linspace(-0.001, 0.001, 41)
    medians = {layer: box.median + spread for layer, box in values["boxes"].items()}
    return Evidence(medians=values.pop("medians", medians), **values)


def with_medians(arm, medians, **changes):
    """A run with these medians, layer by layer, those of the pixels first."""
    names = ("input", *LAYERS)[: len(medians)]
    boxes = {name: Box(m - 0.1, m, m + 0.1, m - 0.3, m + 0.3) for name, m in zip(names, medians, strict=True)}
    return published(arm, boxes=boxes, **changes)


def both(seeds=1):
    return {arm: [published(arm, seed) for seed in range(seeds)] for arm in ARMS}
