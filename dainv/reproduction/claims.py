"""A verdict a claim of the paper, from numbers alone.

Intervals are over images and span those of all seeds, so what holds does so in every run; that of the accuracy is
Student's over seeds where there are three or more. Losses are means over all batches of an epoch and have no interval;
their threshold is wider than what two readings of Figure 2 differ by. Intervals over images say nothing about seeds
that were not run. The thresholds are stated with each verdict.

Nothing is said against a claim that the published numbers would not bear out either: of a run shorter than the paper's
the claims about losses are denied only where Figure 2, cut at the same epoch, shows what they say. Nor is anything said
of runs that are no better than guessing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import stats

from dainv.analysis.loss_phases import LEAST_RECORDS
from dainv.analysis.seeds import seed_difference
from dainv.analysis.statistics import CONFIDENCE
from dainv.formatting import interval, layer_list, listed, number, signed
from dainv.reproduction.evidence import Evidence, in_every_run
from dainv.reproduction.overhead import Overhead, overhead
from dainv.reproduction.published import BASELINE, DYNAMICS, DYNAMICS_EPOCHS, INVARIANCE, LAYERS
from dainv.reproduction.verdict import FAILS, OPEN, Verdict, side, verdict_seeds
from dainv.scores import INPUT
from dainv.summaries import Estimate

NO_COST = 0.01  # of accuracy: how much lower still counts as no cost
RISE = 0.05  # of the score: the arms of Figure 1 are .1 to .5 apart, its boxes .2 wide
CORRELATION = 0.8  # of depth with the median; .98 in Figure 1 but for its last layer, .6 where it falls before it rises
_SEEDS = 3  # from which on a spread over seeds can be estimated
MOVE = 0.03  # of the loss: two values of Figure 2 are read to about .02 of each other


def verdicts(
    baseline: Sequence[Evidence], invariance: Sequence[Evidence], overheads: Sequence[Overhead]
) -> list[Verdict]:
    """All claims, in the order of the paper.

    Args:
        baseline: runs of the baseline, one a seed.
        invariance: runs with the objective, of the same seeds in the same order.
        overheads: measured elsewhere; may be empty.
    """
    both = (*baseline, *invariance)
    return [
        _of_trained(accuracy(baseline, invariance), both),
        _of_trained(pixels(baseline), baseline),
        _of_trained(effect(baseline, invariance), both),
        _of_trained(depth(invariance), invariance),
        _of_trained(growth(baseline), baseline),
        _of_trained(two_phases(invariance), invariance),
        overhead(overheads),
    ]


def _of_trained(found: Verdict, runs: Sequence[Evidence]) -> Verdict:
    """The verdict, or none where a run has learnt nothing."""
    if all(run.accuracy.low > run.guessing for run in runs):
        return found
    because = f"{found.because} Not every run is better than guessing, so there is nothing to judge yet."
    return replace(found, verdict=OPEN, because=because)


def accuracy(baseline: Sequence[Evidence], invariance: Sequence[Evidence]) -> Verdict:
    """Section 3: no cost in the categorization performance."""
    difference = _accuracy_difference(baseline, invariance)
    points = Estimate(*(100 * value for value in difference))
    one, other = (100 * np.mean([run.accuracy.value for run in runs]) for runs in (baseline, invariance))
    because = f"{other:.1f} % with the objective, {one:.1f} % without: {signed(points.value, 1)} points "
    because += (
        f"({interval(points, 1)}, {'over seeds' if len(baseline) >= _SEEDS else 'over images'}{_seeds(baseline)})."
    )
    if len(baseline) > 1:
        gains = (b.accuracy.value - a.accuracy.value for a, b in zip(baseline, invariance, strict=True))
        because += f" Seed by seed: {listed([signed(100 * gain, 1) for gain in gains])}."
    return Verdict(
        "accuracy",
        "Similar accuracy: the objective comes at no cost in categorization (91.5 and 92.2 %).",
        verdict_seeds([side(difference, -NO_COST)]),
        because,
        f"not more than {100 * NO_COST:.0f} point below the baseline",
        {"difference": difference._asdict()},
    )


def _accuracy_difference(baseline: Sequence[Evidence], invariance: Sequence[Evidence]) -> Estimate:
    """Over seeds where there are enough, else over images in every run, which says nothing about other seeds.

    All runs are tested on the same images, so more runs are no more images; errors are taken as if those of the arms
    were independent, which is on the safe side.
    """
    shares = [[run.accuracy.value for run in runs] for runs in (baseline, invariance)]
    found = seed_difference(*shares, paired=True)
    if len(baseline) >= _SEEDS and found.low is not None and found.high is not None:
        return Estimate(found.value, found.low, found.high)

    def over_images(a: float, b: float) -> Estimate:
        variance = (a * (1 - a) + b * (1 - b)) / baseline[0].n_test
        reach = float(stats.norm.ppf(0.5 + CONFIDENCE / 2)) * variance**0.5
        return Estimate(b - a, b - a - reach, b - a + reach)

    return in_every_run([over_images(a, b) for a, b in zip(*shares, strict=True)])


def pixels(baseline: Sequence[Evidence]) -> Verdict:
    """Section 3, Figure 1: the baseline does not increase in invariance beyond the pixel space."""
    statement = "Without the objective, σ does not rise above that of the pixels."
    criterion = f"no layer's median more than {number(RISE)} above that of the pixels"
    layers = _shared_layers(baseline)
    if not layers or any(INPUT not in run.boxes for run in baseline):
        return Verdict("pixels", statement, OPEN, "There is no layer with a score.", criterion, {})

    above = {layer: in_every_run([run.median(layer, above=INPUT) for run in baseline]) for layer in layers}
    # one number, the highest layer's, so that nine layers are not nine chances
    highest = in_every_run([run.of_medians(lambda m: _highest(m, layers)) for run in baseline])
    top = max(above, key=lambda layer: above[layer].value)
    higher = [layer for layer in layers if side(above[layer], RISE) == 1]
    because = f"The highest median is {signed(highest.value, 3)} above the pixels' ({interval(highest, 3)}"
    because += f"{_seeds(baseline)}), at {layer_list([top], layers)}. "
    because += f"Clearly more than {number(RISE)} above at {layer_list(higher, layers)}."
    return Verdict(
        "pixels",
        statement,
        verdict_seeds([-side(highest, RISE)]),
        because,
        criterion,
        {"highest": highest._asdict(), "above_pixels": {layer: found._asdict() for layer, found in above.items()}},
    )


def _highest(medians: dict[str, Any], layers: Sequence[str]) -> Any:
    """The median of the highest layer above that of the pixels."""
    return np.max([medians[layer] - medians[INPUT] for layer in layers], axis=0)


def effect(baseline: Sequence[Evidence], invariance: Sequence[Evidence]) -> Verdict:
    """Abstract and Section 3, Figure 1: the objective is an effective way of increasing the invariance."""
    statement = "The objective makes the representations more invariant than they are without it."
    criterion = "at every layer the median above the baseline's, over the same images"
    layers = _shared_layers([*baseline, *invariance])
    if not layers:
        return Verdict("effect", statement, OPEN, "There is no layer with a score.", criterion, {})
    pairs = list(zip(baseline, invariance, strict=True))
    gained = {layer: in_every_run([other.gain(layer, over=one) for one, other in pairs]) for layer in layers}
    extremes = [choose(gained, key=lambda layer: gained[layer].value) for choose in (min, max)]
    lower = [layer for layer in layers if side(gained[layer], 0) == -1]
    ends = [
        f"{signed(gained[at].value, 3)} ({interval(gained[at], 3)}) at {layer_list([at], layers)}" for at in extremes
    ]
    because = f"From {' to '.join(ends)}{_seeds(invariance)}; lower at {layer_list(lower, layers)}."
    return Verdict(
        "effect",
        statement,
        verdict_seeds([side(found, 0) for found in gained.values()]),
        because,
        criterion,
        {"gained": {layer: found._asdict() for layer, found in gained.items()}},
    )


def depth(invariance: Sequence[Evidence]) -> Verdict:
    """Section 3, Figure 1: increasingly more robust with depth, except at the last layer."""
    statement = "With the objective, σ rises with depth, except at the last layer."
    criterion = (
        f"but for the last layer, the median ends more than {number(RISE)} above where it began and its rank "
        f"correlation with depth is above {number(CORRELATION)}; at the last layer it is lower than before it"
    )
    layers = _shared_layers(invariance)
    if len(layers) < 4:
        return Verdict("depth", statement, OPEN, f"{len(layers)} layers have a score.", criterion, {})
    *rising, last = layers
    parts = {
        "rise": in_every_run([run.median(rising[-1], above=rising[0]) for run in invariance]),
        "correlation": in_every_run([run.of_medians(lambda m: _rank_correlation(m, rising)) for run in invariance]),
        "last": in_every_run([run.median(last, above=rising[-1]) for run in invariance]),
    }
    steps = {b: in_every_run([run.median(b, above=a) for run in invariance]) for a, b in pairwise(layers)}
    falling = [layer for layer, step in steps.items() if side(step, 0) == -1]
    sides = [side(parts["rise"], RISE), side(parts["correlation"], CORRELATION), -side(parts["last"], 0)]
    return Verdict(
        "depth",
        statement,
        verdict_seeds(sides),
        f"From the first layer to the last but one {signed(parts['rise'].value, 3)} ({interval(parts['rise'], 3)}), "
        f"rank correlation with depth {number(parts['correlation'].value)} ({interval(parts['correlation'])}); at the "
        f"last layer {signed(parts['last'].value, 3)} ({interval(parts['last'], 3)}{_seeds(invariance)}). Lower than "
        f"at the layer before at {layer_list(falling, layers)}.",
        criterion,
        {name: found._asdict() for name, found in parts.items()},
    )


def _rank_correlation(medians: dict[str, Any], layers: Sequence[str]) -> Any:
    """Spearman's, of the place of a layer with its median."""
    values = np.stack([np.atleast_1d(medians[layer]) for layer in layers])
    ranks = stats.rankdata(values, axis=0)
    places = np.arange(1, len(layers) + 1.0)
    centred, place = ranks - ranks.mean(0), places - places.mean()
    spread = np.sqrt((centred**2).sum(0) * (place**2).sum())
    found = np.divide(place @ centred, spread, out=np.zeros(values.shape[1]), where=spread > 0)
    return found if len(found) > 1 else found[0]


def growth(baseline: Sequence[Evidence]) -> Verdict:
    """Section 3, Figure 2: in the baseline the invariance loss keeps increasing over the course of training."""
    statement = "Without the objective, the invariance loss grows over training."
    criterion = f"at every layer and seed, the last epoch's loss more than {number(MOVE)} above the first epoch's"
    epochs = min(len(run.curves) for run in baseline)
    if epochs < 2:
        return Verdict("growth", statement, OPEN, "There is one epoch only.", criterion, {})
    changes = np.array([_change(run.curves) for run in baseline])
    grew, fell = np.all(changes > MOVE, axis=0), np.all(changes < -MOVE, axis=0)
    neither = ~(grew | fell)
    layers = LAYERS[: changes.shape[1]]
    judged = verdict_seeds((grew.astype(int) - fell.astype(int)).tolist())
    because = f"From the first epoch to the last it grew at {_those(grew, layers)} and fell at {_those(fell, layers)}: "
    because += f"by {signed(changes.min())} to {signed(changes.max())}{_seeds(baseline)}."
    if np.any(neither):
        because += f" It did neither{' in all seeds' if len(baseline) > 1 else ''} at {_those(neither, layers)}."
    if judged == FAILS and not np.all(_change(_published(BASELINE, epochs)) > MOVE):
        judged = OPEN
        because += _TOO_SHORT.format(_published_epoch(epochs))
    numbers = {"change": dict(zip(layers, changes.mean(0).tolist(), strict=True))}
    return Verdict("growth", statement, judged, because, criterion, numbers)


def _change(curves: np.ndarray) -> np.ndarray:
    return np.asarray(curves[-1] - curves[0])


_TOO_SHORT = " Nor would Figure 2 show it if it ended at its epoch {}, so this is not held against the claim."


def _published_epoch(epochs: int) -> int:
    """The last epoch read off Figure 2 that a run of so many epochs has."""
    return max(epoch for epoch in DYNAMICS_EPOCHS if epoch < epochs)


def _published(arm: str, epochs: int) -> np.ndarray:
    """``(E, L)`` published losses, as far as a run of so many epochs goes."""
    return np.asarray(DYNAMICS[arm][:, np.array(DYNAMICS_EPOCHS) < epochs].T)


def two_phases(invariance: Sequence[Evidence]) -> Verdict:
    """Section 3, Figure 2: the loss increases in the first epochs and only then decreases, except at the last layer."""
    statement = "With the objective, the loss first rises and then falls, except at the last layer."
    shown = rise_and_fall(DYNAMICS[INVARIANCE].T) > MOVE
    criterion = (
        f"at each layer where Figure 2 shows it ({_those(shown, LAYERS)}), for every seed, a rise of more than "
        f"{number(MOVE)} before a fall of more than {number(MOVE)}; not at the last layer"
    )
    epochs = min(len(run.curves) for run in invariance)
    if epochs < LEAST_RECORDS:
        why = f"To tell two phases from chance takes {LEAST_RECORDS} epochs; here it is {epochs}."
        return Verdict("two phases", statement, OPEN, why, criterion, {})
    sizes = np.array([rise_and_fall(run.curves) for run in invariance])
    both, neither = np.all(sizes > MOVE, axis=0), np.all(sizes <= MOVE, axis=0)
    layers = LAYERS[: sizes.shape[1]]
    sides = both.astype(int) - neither.astype(int)
    judged = verdict_seeds([*sides[shown[: len(layers)]].tolist(), -int(sides[-1])])
    because = f"It rose and then fell at {_those(both, layers)}, and did not at {_those(neither, layers)}"
    because += f"{_seeds(invariance)}."
    if not np.all(both | neither):
        because += f" Seeds differ at {_those(~(both | neither), layers)}."
    if judged == FAILS and not np.all(rise_and_fall(_published(INVARIANCE, epochs))[shown] > MOVE):
        judged = OPEN
        because += _TOO_SHORT.format(_published_epoch(epochs))
    numbers = {"rise_and_fall": dict(zip(layers, sizes.mean(0).tolist(), strict=True))}
    return Verdict("two phases", statement, judged, because, criterion, numbers)


def rise_and_fall(curves: np.ndarray) -> np.ndarray:
    """How far each curve rose and then fell: the smaller of the two, at the peak where that is most.

    Args:
        curves: ``(E, L)``, a row an epoch.

    Returns:
        ``(L,)``, 0 for a curve that does only one of them.
    """
    rise = curves - np.minimum.accumulate(curves, axis=0)
    fall = curves - curves[-1]
    return np.minimum(rise, fall).max(0)


def _shared_layers(runs: Sequence[Evidence]) -> list[str]:
    return [layer for layer in runs[0].layers if all(layer in run.boxes for run in runs)]


def _those(chosen: np.ndarray, layers: Sequence[str]) -> str:
    return layer_list([layer for layer, true in zip(layers, chosen, strict=True) if true], list(layers))


def _seeds(runs: Sequence[Evidence]) -> str:
    return ", one seed" if len(runs) == 1 else f", {len(runs)} seeds"
