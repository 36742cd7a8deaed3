"""A verdict a claim of the paper, from numbers alone.

A claim holds where the whole interval of what it says lies on its side of a threshold; it does not hold where the whole
interval lies on the other side; else it cannot be said. Intervals of scores are the bootstrap's over images and span
those of all seeds, so what holds does so in every run. That of the accuracy is over images, and Student's over seeds
where there are three or more. The thresholds are part of each verdict and stated with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from dainv.analysis.phases import LEAST_RECORDS
from dainv.analysis.seeds import seed_difference
from dainv.analysis.statistics import CONFIDENCE, Estimate
from dainv.analysis.words import interval, layer_list, number, signed
from dainv.reproduction.evidence import Evidence, in_every_run
from dainv.reproduction.published import DYNAMICS, INVARIANCE, LAYERS, OVERHEAD_PERCENT
from dainv.scores import INPUT

HOLDS, FAILS, OPEN = "holds", "does not hold", "cannot be said"

NO_COST = 0.01  # of accuracy: how much lower still counts as no cost
RISE = 0.05  # of the score: the arms of Figure 1 are .1 to .5 apart, its boxes .2 wide
CORRELATION = 0.5  # of depth with the median; .98 in Figure 1 without the last layer
_SEEDS = 3  # from which on a spread over seeds can be estimated
MOVE = 0.03  # of the loss: two values of Figure 2 are read to about .02 of each other


@dataclass(frozen=True)
class Verdict:
    """What the runs say of a claim.

    Attributes:
        claim: a short name.
        statement: what the paper says.
        verdict: holds, does not hold, or cannot be said.
        because: a sentence with the numbers.
        criterion: what was asked of the numbers.
        numbers: them, for other programs.
    """

    claim: str
    statement: str
    verdict: str
    because: str
    criterion: str
    numbers: dict[str, Any]


class Overhead(NamedTuple):
    """What ``dainv-bench overhead`` measured of an arm: percent of a training step, and on what."""

    arm: str
    percent: Estimate
    machine: str


def verdicts(
    baseline: Sequence[Evidence], invariance: Sequence[Evidence], overheads: Sequence[Overhead]
) -> list[Verdict]:
    """All claims, in the order of the paper.

    Args:
        baseline: runs of the baseline, one a seed.
        invariance: runs with the objective, of the same seeds in the same order.
        overheads: measured elsewhere; may be empty.
    """
    return [
        accuracy(baseline, invariance),
        pixels(baseline),
        depth(invariance),
        growth(baseline),
        two_phases(invariance),
        overhead(overheads),
    ]


def side(found: Estimate, threshold: float) -> int:
    """1 where the whole interval lies above the threshold, -1 where it lies below, else 0."""
    return int(found.low > threshold) - int(found.high < threshold)


def verdict_seeds(sides: Sequence[int]) -> str:
    """Of a claim with several parts, each 1 where it holds, -1 where it does not, 0 where it cannot be said."""
    if not sides:
        return OPEN
    return FAILS if -1 in sides else HOLDS if set(sides) == {1} else OPEN


def accuracy(baseline: Sequence[Evidence], invariance: Sequence[Evidence]) -> Verdict:
    """Section 3: no cost in the categorization performance."""
    difference = _accuracy_difference(baseline, invariance)
    points = Estimate(*(100 * value for value in difference))
    one, other = (100 * np.mean([run.accuracy.value for run in runs]) for runs in (baseline, invariance))
    because = f"{other:.1f} % with the objective, {one:.1f} % without: {signed(points.value, 1)} points "
    because += (
        f"({interval(points, 1)}, {'over seeds' if len(baseline) >= _SEEDS else 'over images'}{_seeds(baseline)})."
    )
    judged = verdict_seeds([side(difference, -NO_COST)])
    if any(run.accuracy.low <= run.guessing for run in (*baseline, *invariance)):
        judged = OPEN
        because += " Not every run is better than guessing, so there is nothing to compare yet."
    return Verdict(
        "accuracy",
        "Similar accuracy: the objective comes at no cost in categorization (91.5 and 92.2 %).",
        judged,
        because,
        f"not more than {100 * NO_COST:.0f} point below the baseline",
        {"difference": difference._asdict()},
    )


def _accuracy_difference(baseline: Sequence[Evidence], invariance: Sequence[Evidence]) -> Estimate:
    """Over seeds where there are enough, else over images, which says nothing about other seeds."""
    one, other = ([run.accuracy.value for run in runs] for runs in (baseline, invariance))
    if len(one) >= _SEEDS:
        found = seed_difference(one, other, paired=True)
        low, high = (found.value if end is None else end for end in (found.low, found.high))
        return Estimate(found.value, low, high)
    a, b = float(np.mean(one)), float(np.mean(other))
    variance = a * (1 - a) / sum(run.n_test for run in baseline) + b * (1 - b) / sum(run.n_test for run in invariance)
    reach = float(stats.norm.ppf(0.5 + CONFIDENCE / 2)) * variance**0.5
    return Estimate(b - a, b - a - reach, b - a + reach)


def pixels(baseline: Sequence[Evidence]) -> Verdict:
    """Section 3, Figure 1: the baseline does not increase in invariance beyond the pixel space."""
    statement = "Without the objective, σ does not rise above that of the pixels."
    criterion = f"no layer's median more than {number(RISE)} above that of the pixels"
    layers = _shared_layers(baseline)
    if not layers or any(INPUT not in run.boxes for run in baseline):
        return Verdict("pixels", statement, OPEN, "There is no layer with a score.", criterion, {})

    above = {layer: in_every_run([run.median(layer, above=INPUT) for run in baseline]) for layer in layers}
    sides = {layer: -side(found, RISE) for layer, found in above.items()}
    higher = [layer for layer in layers if sides[layer] == -1]
    top = max(above, key=lambda layer: above[layer].value)
    because = f"The highest median is at {layer_list([top], layers)}: {signed(above[top].value)} above the pixels' "
    because += f"({interval(above[top])}{_seeds(baseline)}). "
    because += f"Clearly more than {number(RISE)} above at {layer_list(higher, layers)}."
    return Verdict(
        "pixels",
        statement,
        verdict_seeds(list(sides.values())),
        because,
        criterion,
        {"above_pixels": {layer: found._asdict() for layer, found in above.items()}},
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
    sides = [side(parts["rise"], RISE), side(parts["correlation"], CORRELATION), -side(parts["last"], 0)]
    return Verdict(
        "depth",
        statement,
        verdict_seeds(sides),
        f"From the first layer to the last but one {signed(parts['rise'].value)} ({interval(parts['rise'])}), rank "
        f"correlation with depth {number(parts['correlation'].value)} ({interval(parts['correlation'])}); at the last "
        f"layer {signed(parts['last'].value)} ({interval(parts['last'])}{_seeds(invariance)}).",
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
    if min(len(run.curves) for run in baseline) < 2:
        return Verdict("growth", statement, OPEN, "There is one epoch only.", criterion, {})
    changes = np.array([run.curves[-1] - run.curves[0] for run in baseline])
    grew, fell = np.all(changes > MOVE, axis=0), np.all(changes < -MOVE, axis=0)
    sides = grew.astype(int) - fell.astype(int)
    layers = LAYERS[: changes.shape[1]]
    return Verdict(
        "growth",
        statement,
        verdict_seeds(sides.tolist()),
        f"From the first epoch to the last it grew at {_those(grew, layers)} and fell at {_those(fell, layers)}: by "
        f"{signed(changes.mean(0).min())} to {signed(changes.mean(0).max())}{_seeds(baseline)}.",
        criterion,
        {"change": dict(zip(layers, changes.mean(0).tolist(), strict=True))},
    )


def two_phases(invariance: Sequence[Evidence]) -> Verdict:
    """Section 3, Figure 2: the loss increases in the first epochs and only then decreases, except at the last layer."""
    statement = "With the objective, the loss first rises and then falls, except at the last layer."
    shown = [layer for layer, found in zip(LAYERS, rise_and_fall(DYNAMICS[INVARIANCE].T), strict=True) if found > MOVE]
    criterion = (
        f"at each layer where Figure 2 shows it ({layer_list(shown, LAYERS)}), for every seed, a rise of more than "
        f"{number(MOVE)} before a fall of more than {number(MOVE)}; not at the last layer"
    )
    epochs = min(len(run.curves) for run in invariance)
    if epochs < LEAST_RECORDS:
        why = f"To tell two phases from chance takes {LEAST_RECORDS} epochs; here it is {epochs}."
        return Verdict("two phases", statement, OPEN, why, criterion, {})
    sizes = np.array([rise_and_fall(run.curves) for run in invariance])
    both, neither = np.all(sizes > MOVE, axis=0), np.all(sizes <= MOVE, axis=0)
    layers = LAYERS[: sizes.shape[1]]
    sides = [int(both[place]) - int(neither[place]) for place, layer in enumerate(layers) if layer in shown]
    sides.append(int(neither[-1]) - int(both[-1]))
    return Verdict(
        "two phases",
        statement,
        verdict_seeds(sides),
        f"It rose and then fell at {_those(both, layers)}, and did not at {_those(neither, layers)}"
        f"{_seeds(invariance)}.",
        criterion,
        {"rise_and_fall": dict(zip(layers, sizes.mean(0).tolist(), strict=True))},
    )


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


def overhead(measured: Sequence[Overhead]) -> Verdict:
    """Section 3: the training time is only increased by about 10 %."""
    statement = "The objective adds about 10 % to the training time."
    criterion = f"at most {OVERHEAD_PERCENT:.0f} % of a training step, in dainv's implementation"
    if not measured:
        return Verdict("overhead", statement, OPEN, "Not measured.", criterion, {})
    said = "; ".join(
        f"{signed(found.percent.value, 1)} % ({interval(found.percent, 1)}) on {found.machine}, arm {found.arm}"
        for found in measured
    )
    return Verdict(
        "overhead",
        statement,
        verdict_seeds([-side(found.percent, OVERHEAD_PERCENT) for found in measured]),
        f"{said}.",
        criterion,
        {found.machine: found.percent._asdict() for found in measured},
    )


def _shared_layers(runs: Sequence[Evidence]) -> list[str]:
    return [layer for layer in runs[0].layers if all(layer in run.boxes for run in runs)]


def _those(chosen: np.ndarray, layers: Sequence[str]) -> str:
    return layer_list([layer for layer, true in zip(layers, chosen, strict=True) if true], list(layers))


def _seeds(runs: Sequence[Evidence]) -> str:
    return ", one seed" if len(runs) == 1 else f", {len(runs)} seeds"
