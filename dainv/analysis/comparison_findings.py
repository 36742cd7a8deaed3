"""What can be concluded from comparing two arms, and what cannot, in sentences."""

from __future__ import annotations

from collections.abc import Mapping

from dainv.analysis.arms import the
from dainv.analysis.comparison import Comparison, RunComparison
from dainv.analysis.seeds import SeedDifference
from dainv.analysis.signed_rank import SIGNIFICANCE
from dainv.formatting import interval, layer_list, listed, most_of, number, short_layer, signed

_TEST = (
    "By Wilcoxon signed-rank tests with Holm's correction over the layers, at 0.05; r is the effect size, the "
    "rank-biserial correlation."
)
SMALL = 0.1  # a rank-biserial correlation below which a difference is called small, however certain it is


def comparison_findings(comparison: Comparison) -> list[str]:
    """Over images for each pair of runs, then over seeds."""
    sentences = []
    if len(comparison.pairs) == 1 and comparison.pairs[0].tests:
        sentences.append(_over_images(comparison.pairs[0]))
    elif comparison.pairs and comparison.pairs[0].tests:
        sentences.append(_over_images_of_pairs(comparison))
    if comparison.seeds:
        sentences += [_over_seeds(comparison), _how_sure(comparison), _accuracy(comparison)]
    else:
        sentences.append(
            "Each arm is one run. The tests say whether these two networks differ on images such as these; whether "
            "the way of training makes the difference, only runs with other seeds can say."
        )
    return sentences


def _over_images(pair: RunComparison) -> str:
    layers = pair.other.config["layers"]
    parts = []
    for sign, word in ((1, "higher"), (-1, "lower")):
        chosen = [layer for layer, test in pair.tests.items() if test.sign == sign and abs(test.effect) >= SMALL]
        if not chosen:
            continue
        most = max(chosen, key=lambda layer: abs(pair.tests[layer].effect))
        test, median = pair.tests[most], pair.differences[most]
        share = test.higher if sign > 0 else 1 - test.higher
        parts.append(
            f"{word} at {layer_list(chosen, layers)} (most clearly at layer {short_layer(most)}: {word} in "
            f"{most_of(share)} of the images, r = {number(test.effect)}, median {signed(median.value)}, 95 % interval "
            f"{interval(median)})"
        )
    small = [layer for layer, test in pair.tests.items() if test.sign and abs(test.effect) < SMALL]
    if small:
        parts.append(f"different beyond chance but hardly (|r| < {SMALL}) at {layer_list(small, layers)}")
    unclear = [layer for layer, test in pair.tests.items() if not test.sign]
    if unclear:
        parts.append(f"not clearly different at {layer_list(unclear, layers)}")
    return (
        f"Compared with {the(pair.reference.label)} image by image, σ of {the(pair.other.label)} is "
        f"{'; '.join(parts)}. {_TEST}"
    )


def _over_images_of_pairs(comparison: Comparison) -> str:
    """Layers at which all pairs of runs say the same."""
    tests = [pair.tests for pair in comparison.pairs]
    shared = [layer for layer in tests[0] if all(layer in found for found in tests)]
    layers = comparison.other.layers[1:]
    parts = []
    for sign, word in ((1, "higher"), (-1, "lower")):
        chosen = [layer for layer in shared if all(found[layer].sign == sign for found in tests)]
        if chosen:
            effects = [found[layer].effect for found in tests for layer in chosen]
            ends = dict.fromkeys([number(min(effects)), number(max(effects))])
            parts.append(f"{word} in every pair of runs at {layer_list(chosen, layers)} (r = {' to '.join(ends)})")
    mixed = [layer for layer in shared if len({found[layer].sign for found in tests} - {0}) == 2]
    if mixed:
        parts.append(f"higher in some pairs and lower in others at {layer_list(mixed, layers)}")
    if not parts:
        parts.append("at no layer the same in every pair")
    return (
        f"Compared with {the(comparison.reference.label)} image by image in {len(tests)} pairs of runs, σ of "
        f"{the(comparison.other.label)} is {'; '.join(parts)}. {_TEST}"
    )


def _over_seeds(comparison: Comparison) -> str:
    one, other = comparison.reference, comparison.other
    who = f"Over seeds ({one.n} run{'s' if one.n > 1 else ''} of {the(one.label)}, {other.n} of {the(other.label)})"
    found = comparison.seeds
    if min(one.n, other.n) <= 2:
        why = (
            "no interval can be given for a difference: an arm has one run, and whether it is a usual one is not known"
            if min(one.n, other.n) == 1
            else "no layer is singled out: between two runs a t test finds what happens to be alike, not what is large"
        )
        return f"{who}, {why}. The mean of the medians differs {_extremes(found)}."
    parts = []
    for sign, word in ((1, "higher"), (-1, "lower")):
        chosen = [layer for layer in found if found[layer].sign == sign]
        if chosen:
            most = max(chosen, key=lambda layer: abs(found[layer].value))
            parts.append(
                f"{word} at {layer_list(chosen, other.layers[1:])} (most at layer {short_layer(most)}: "
                f"{_difference(found[most])})"
            )
    unclear = [layer for layer in found if not found[layer].sign]
    if unclear:
        parts.append(f"not clearly different at {layer_list(unclear, other.layers[1:])}")
    test = "paired by seed" if comparison.accuracy is not None and comparison.accuracy.paired else "Welch's"
    return (
        f"{who}, the mean of the median σ of {the(other.label)} is {'; '.join(parts)}. By t tests ({test}) with Holm's "
        "correction over the layers, at 0.05."
    )


def _difference(found: SeedDifference) -> str:
    if found.low is None or found.high is None:
        return signed(found.value)
    return f"{signed(found.value)}, 95 % t interval {interval(found)}"


def _extremes(seeds: Mapping[str, SeedDifference]) -> str:
    lowest, highest = (choose(seeds, key=lambda layer: seeds[layer].value) for choose in (min, max))
    return listed(
        [f"by {signed(seeds[layer].value)} at layer {short_layer(layer)}" for layer in dict.fromkeys((lowest, highest))]
    )


def _how_sure(comparison: Comparison) -> str:
    """What so few runs can show at most."""
    seeds = comparison.seeds
    found = next(iter(seeds.values()))
    unanimous = [layer for layer, one in seeds.items() if one.same_sign == one.pairs]
    counted = f"{found.pairs} pairs of runs of the same seed" if found.paired else f"all {found.pairs} pairs of runs"
    agree = f"The difference has one sign in {counted} at {layer_list(unanimous, comparison.other.layers[1:])}."
    if found.least_rank_p < SIGNIFICANCE:
        return f"{agree} That many runs are enough to tell an arm from another without assumptions on their spread."
    if min(found.n) == 1:
        return agree
    return (
        f"{agree} How sure that is: by signs or ranks alone, so few runs cannot reach a p below "
        f"{found.least_rank_p:.2g}, however large the difference; the t intervals go further by taking the spread over "
        "seeds to be normal, which so few runs cannot show."
    )


def _accuracy(comparison: Comparison) -> str:
    found = comparison.accuracy
    assert found is not None
    points = f"{signed(100 * found.value, 1)} points"
    if found.low is None or found.high is None:
        why = "with one run in an arm" if min(found.n) == 1 else "as the differences have no spread over runs"
        return f"The mean test accuracy differs by {points}; {why} there is no interval."
    verdict = {1: "higher", -1: "lower", 0: "not clearly different"}[found.sign]
    doubt = "" if found.sign else " That does not show them to be equal: any difference in the interval is possible."
    return (
        f"Over seeds, the test accuracy of {the(comparison.other.label)} is {verdict}: {points}, 95 % t interval "
        f"{number(100 * found.low, 1)} to {number(100 * found.high, 1)}.{doubt}"
    )
