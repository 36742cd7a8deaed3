"""The findings in sentences, each from the numbers alone: no sentence says more than its interval does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from dainv.analysis.arms import the
from dainv.analysis.comparison import Comparison
from dainv.analysis.comparison_findings import comparison_findings
from dainv.analysis.loss_phases import LEAST_RECORDS
from dainv.analysis.results import AnalyzedRun, Arm
from dainv.formatting import capital, interval, layer_list, number, percent, short_layer, spread
from dainv.scores import INPUT

_PATTERNS = {"fall": "fell", "rise": "rose"}


class Finding(NamedTuple):
    """A sentence and what it is about."""

    topic: str
    sentence: str


def findings(arms: Sequence[Arm], comparisons: Sequence[Comparison]) -> list[Finding]:
    """What was found, the plainest first."""
    topics = {
        "Accuracy": [_accuracies(arms)],
        "Invariance scores": _pixels([run for arm in arms for run in arm.runs])
        + [_along_the_network(arm) for arm in arms],
        "Comparison": [sentence for comparison in comparisons for sentence in comparison_findings(comparison)],
        "Dynamics": [_losses(arm) for arm in arms],
    }
    return [Finding(topic, sentence) for topic, sentences in topics.items() for sentence in sentences]


def _accuracies(arms: Sequence[Arm]) -> str:
    each = []
    for arm in arms:
        run = arm.runs[0]
        if arm.n == 1:
            each.append(
                f"{percent(run.accuracy)} for {the(arm.label)} after epoch {run.record['epoch']} "
                f"(n = {run.config['data']['n_test']:,} images)"
            )
        else:
            mean = arm.accuracy
            low, high = mean.interval
            each.append(
                f"{100 * mean.value:.1f} % for {the(arm.label)}, the mean of {arm.n} runs ({100 * mean.least:.1f} to "
                f"{100 * mean.most:.1f} %; t interval over seeds {100 * low:.1f} to {100 * high:.1f} %)"
            )
    return f"Test accuracy, with its 95 % interval: {'; '.join(each)}."


def _pixels(runs: Sequence[AnalyzedRun]) -> list[str]:
    """Runs scored on the same images share the pixels' score, which is then said once."""
    sentences = []
    told: set[str] = set()
    for run in runs:
        if INPUT in run.summaries and run.source.data_sha256 not in told:
            told.add(run.source.data_sha256)
            median = run.summaries[INPUT].median
            sentences.append(
                f"In the pixels of {run.data}, before any layer, the median invariance score σ is "
                f"{number(median.value)} (95 % interval {interval(median)}); layers are compared with it one by one, "
                "by the 95 % interval of the difference."
            )
    return sentences


def _along_the_network(arm: Arm) -> str:
    """Where the medians lie compared with the pixels', in every run, and where they end up."""
    layers = [layer for layer in arm.scored if layer != INPUT]
    if not layers or not all(run.above_pixels for run in arm.runs):
        return f"{capital(arm.title)}: no layer has a score to compare with the pixels'."
    signs = {layer: {run.above_pixels[layer].sign for run in arm.runs} for layer in layers}
    parts = []
    everywhere = "in every run " if arm.n > 1 else ""
    unclear = f"not {everywhere}clearly on one side of" if arm.n > 1 else "not clearly different from"
    for sign, words in ((1, f"{everywhere}above"), (-1, f"{everywhere}below"), (0, unclear)):
        if sign:
            chosen = [layer for layer in layers if signs[layer] == {sign}]
        else:
            chosen = [layer for layer in layers if signs[layer] not in ({1}, {-1})]
        if chosen:
            parts.append(f"{words} the pixels' at {layer_list(chosen, arm.layers[1:])}")
    medians = {layer: arm.medians[layer].value for layer in layers}
    highest, deepest = max(medians, key=lambda layer: medians[layer]), layers[-1]
    ends = f"It is highest at layer {short_layer(highest)}, {_median(arm, highest)}"
    if deepest != highest:
        ends += f", and {_median(arm, deepest)} at layer {short_layer(deepest)}, the deepest with a score"
    return f"{capital(arm.title)}: the median σ is {', '.join(parts)}. {ends}."


def _median(arm: Arm, layer: str) -> str:
    mean = arm.medians[layer]
    return number(mean.value) if arm.n == 1 else f"{number(mean.value)} (t interval over runs {interval(mean)})"


def _losses(arm: Arm) -> str:
    """Phases of the invariance loss on training batches, and its values at both ends."""
    dynamics = arm.dynamics.mean
    who = capital(arm.title)
    last = int(dynamics.epochs[-1])
    if len(dynamics.epochs) < 2:
        return f"{who}: no epoch is complete yet; the invariance losses are those before any update."
    ends = []
    for place in dict.fromkeys((0, len(dynamics.layers) - 1)):
        first, final = dynamics.train[dynamics.first_mean, place], dynamics.train[-1, place]
        ends.append(f"from {number(first)} to {number(final)} at layer {short_layer(dynamics.layers[place])}")
    began = (
        f"It went {' and '.join(ends)}, between the means of epochs {dynamics.epochs[dynamics.first_mean]} and {last}."
    )
    if last < LEAST_RECORDS:
        return f"{who}: {last} epochs are too few to tell phases of the invariance loss from noise. {began}"
    patterns: dict[tuple[str, ...], list[str]] = {}
    for layer, found in dynamics.train_phases.items():
        patterns.setdefault(tuple(phase.kind for phase in found), []).append(layer)
    parts = [_pattern(arm, kinds, layers) for kinds, layers in patterns.items()]
    return f"{who}: over {last} epochs, the invariance loss on training batches {'; '.join(parts)}. {began}"


def _pattern(arm: Arm, kinds: tuple[str, ...], layers: list[str]) -> str:
    """What layers with the same phases did, and the epochs of their turning points."""
    where = layer_list(layers, arm.layers[1:])
    if not kinds:
        return f"neither rose nor fell clearly at {where}"
    did = ", then ".join(_PATTERNS[kind] for kind in kinds)
    if len(kinds) == 1:
        return f"{did} at {where}"
    turns = zip(*(arm.dynamics.mean.turning_epochs(layer) for layer in layers), strict=True)
    return f"{did} at {where} (turning at epoch {' and '.join(spread(epochs) for epochs in turns)})"
