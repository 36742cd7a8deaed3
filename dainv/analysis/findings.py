"""The findings in sentences, each from the numbers alone: no sentence says more than its interval does."""

from __future__ import annotations

from collections.abc import Sequence

from dainv.analysis.results import BASELINE, AnalyzedRun, Comparison, short_layer
from dainv.analysis.statistics import Estimate
from dainv.scores import INPUT


def number(value: float, digits: int = 2) -> str:
    """A number with a true minus sign, and no sign where it rounds to nothing."""
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−")


def signed(value: float, digits: int = 2) -> str:
    """A difference: with its sign in any case."""
    text = number(value, digits)
    return text if text.startswith("−") or float(text) == 0 else f"+{text}"


def interval(estimate: Estimate, digits: int = 2) -> str:
    """The ends of an interval."""
    return f"{number(estimate.low, digits)} to {number(estimate.high, digits)}"


def percent(estimate: Estimate) -> str:
    """A share with its interval, in percent."""
    return f"{100 * estimate.value:.1f} % ({100 * estimate.low:.1f} to {100 * estimate.high:.1f} %)"


def layer_list(chosen: Sequence[str], layers: Sequence[str]) -> str:
    """Some of the layers in words, neighbours drawn together: ``layers 1 and 3–5``.

    Args:
        chosen: the layers to name.
        layers: all layers, in order.
    """
    runs: list[list[str]] = []
    for place, layer in enumerate(layers):
        if layer not in chosen:
            continue
        if runs and layers[place - 1] == runs[-1][-1]:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    parts: list[str] = []
    for run in runs:
        names = [short_layer(layer) for layer in run]
        parts += [f"{names[0]}–{names[-1]}"] if len(names) > 2 else names
    if not parts:
        return "no layer"
    if len(chosen) == len(layers) > 1:
        return f"all {len(layers)} layers"
    listed = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
    return f"layer {listed}" if len(chosen) == 1 else f"layers {listed}"


def findings(runs: Sequence[AnalyzedRun], comparisons: Sequence[Comparison]) -> list[str]:
    """What was found, the plainest first."""
    sentences = [_accuracies(runs), *_pixels(runs)]
    for run in runs:
        sentences += _along_the_network(run)
    for comparison in comparisons:
        sentences += _against_reference(comparison)
    return sentences + [_losses(run) for run in runs]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _the(run: AnalyzedRun) -> str:
    return f"the {run.label}" if run.label == BASELINE else run.label


def _accuracies(runs: Sequence[AnalyzedRun]) -> str:
    each = [
        f"{percent(run.accuracy)} for {_the(run)} after epoch {run.record['epoch']} "
        f"(n = {run.config['data']['n_test']:,} images)"
        for run in runs
    ]
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
                f"{number(median.value)} ({interval(median)})."
            )
    return sentences


def _along_the_network(run: AnalyzedRun) -> list[str]:
    """Where the medians lie compared with the pixels', and where they end up."""
    if not run.above_pixels:
        return [f"{_capital(run.label)}: no layer has a score to compare with the pixels'."]
    layers = run.config["layers"]
    parts = []
    for sign, words in ((1, "above"), (-1, "below"), (0, "not clearly different from")):
        chosen = [layer for layer, estimate in run.above_pixels.items() if estimate.sign == sign]
        if chosen:
            parts.append(f"{words} the pixels' at {layer_list(chosen, layers)}")
    medians = {layer: run.summaries[layer].median.value for layer in run.above_pixels}
    highest = max(medians, key=lambda layer: medians[layer])
    deepest = list(medians)[-1]
    ends = f"It is highest at layer {short_layer(highest)}, {number(medians[highest])}"
    if deepest != highest:
        ends += f", and {number(medians[deepest])} at layer {short_layer(deepest)}, the deepest with a score"
    return [f"{_capital(run.label)}: the median σ is {', '.join(parts)}. {ends}."]


def _against_reference(comparison: Comparison) -> list[str]:
    layers = comparison.other.config["layers"]
    differences = {layer: value for layer, value in comparison.differences.items() if layer != INPUT}
    if not differences:
        return []
    parts = []
    for sign, word in ((1, "higher"), (-1, "lower")):
        chosen = {layer: value for layer, value in differences.items() if value.sign == sign}
        if not chosen:
            continue
        most = max(chosen, key=lambda layer: abs(chosen[layer].value))
        largest = chosen[most]
        parts.append(
            f"{word} at {layer_list(list(chosen), layers)} (most at layer {short_layer(most)}: "
            f"{signed(largest.value)}, {interval(largest)})"
        )
    unclear = [layer for layer, value in differences.items() if value.sign == 0]
    if unclear:
        parts.append(f"not clearly different at {layer_list(unclear, layers)}")
    return [
        f"Compared with {_the(comparison.reference)}, the median σ of {_the(comparison.other)} is {'; '.join(parts)}."
    ]


def _losses(run: AnalyzedRun) -> str:
    """First and last invariance loss on training batches."""
    dynamics = run.dynamics
    who = _capital(run.label)
    if len(dynamics.epochs) < 2:
        return f"{who}: no epoch is complete yet; the invariance losses are those before any update."
    change = dynamics.train[-1] - dynamics.train[0]
    rose = [layer for layer, value in zip(dynamics.layers, change, strict=True) if value > 0]
    fell = [layer for layer, value in zip(dynamics.layers, change, strict=True) if value < 0]
    moved = [
        f"{verb} at {layer_list(chosen, dynamics.layers)}"
        for verb, chosen in (("rose", rose), ("fell", fell))
        if chosen
    ]
    ends = []
    for place in dict.fromkeys((0, len(dynamics.layers) - 1)):
        first, last = dynamics.train[0, place], dynamics.train[-1, place]
        ends.append(f"from {number(first)} to {number(last)} at layer {short_layer(dynamics.layers[place])}")
    return (
        f"{who}: from the first training batch to the mean of epoch {dynamics.epochs[-1]}, the invariance loss "
        f"{' and '.join(moved) or 'stayed the same'}: {' and '.join(ends)}."
    )
