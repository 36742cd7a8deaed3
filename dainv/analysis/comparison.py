"""Arms compared with a reference: run with run over images, arm with arm over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dainv.analysis.results import AnalyzedRun, Arm
from dainv.analysis.seeds import SeedDifference, seed_difference
from dainv.analysis.signed_rank import PairedTest, holm, paired_tests
from dainv.analysis.statistics import difference
from dainv.scores import INPUT
from dainv.summaries import Estimate


@dataclass(frozen=True)
class RunComparison:
    """Two runs compared over the images that both were scored on, at the layers that both have.

    Attributes:
        reference: the run of the reference arm.
        other: the run compared with it.
        differences: layer -> median of ``other`` minus median of ``reference``.
        tests: layer -> signed-rank test over images.
    """

    reference: AnalyzedRun
    other: AnalyzedRun
    differences: dict[str, Estimate]
    tests: dict[str, PairedTest]


@dataclass(frozen=True)
class Comparison:
    """An arm compared with the reference.

    Attributes:
        reference: the baseline if there is one, else the first arm.
        other: the arm compared with it.
        pairs: runs compared image by image: those of the same seed where the arms share seeds.
        seeds: layer -> difference over seeds of the medians; empty where both arms have one run.
        accuracy: difference over seeds of the test accuracy; None where both arms have one run.
    """

    reference: Arm
    other: Arm
    pairs: tuple[RunComparison, ...]
    seeds: dict[str, SeedDifference]
    accuracy: SeedDifference | None


def compare(arms: Sequence[Arm]) -> list[Comparison]:
    """Each arm against the reference, where both were scored on the same images."""
    reference = next((arm for arm in arms if arm.is_baseline), arms[0])
    return [
        _compare(reference, other)
        for other in arms
        if other is not reference and other.runs[0].source.data_sha256 == reference.runs[0].source.data_sha256
    ]


def _compare(reference: Arm, other: Arm) -> Comparison:
    shared = [seed for seed in other.by_seed if seed in reference.by_seed]
    if shared:
        matched = [(reference.by_seed[seed], other.by_seed[seed]) for seed in shared]
    else:
        matched = [(reference.runs[0], run) for run in other.runs]
    pairs = tuple(_compare_runs(one, another) for one, another in matched)
    if reference.n == other.n == 1:
        return Comparison(reference, other, pairs, {}, None)
    paired = len(shared) > 1 and len(shared) == reference.n == other.n
    ones, others = (reference.runs, other.runs) if not paired else tuple(zip(*matched, strict=True))
    layers = [layer for layer in reference.scored if layer in other.scored and layer != INPUT]
    seeds = {
        layer: seed_difference(
            *([run.summaries[layer].median.value for run in runs] for runs in (ones, others)), paired=paired
        )
        for layer in layers
    }
    accuracy = seed_difference(*([run.accuracy.value for run in runs] for runs in (ones, others)), paired=paired)
    return Comparison(reference, other, pairs, _corrected(seeds), accuracy._replace(p_holm=accuracy.p))


def _corrected(seeds: dict[str, SeedDifference]) -> dict[str, SeedDifference]:
    known = {layer: found.p for layer, found in seeds.items() if found.p is not None}
    corrected = dict(zip(known, holm(np.array(list(known.values()))), strict=True))
    return {
        layer: found._replace(p_holm=float(corrected[layer])) if layer in corrected else found
        for layer, found in seeds.items()
    }


def _compare_runs(reference: AnalyzedRun, other: AnalyzedRun) -> RunComparison:
    layers = [layer for layer in reference.summaries if layer in other.summaries and layer != INPUT]
    differences = {layer: difference(reference.summaries[layer], other.summaries[layer]) for layer in layers}
    tests = paired_tests(*({layer: run.scores.sigma[layer] for layer in layers} for run in (reference, other)))
    return RunComparison(reference, other, differences, tests)
