"""Each verdict comes out each way, from numbers alone; the paper's own numbers bear out the paper's claims."""

import numpy as np
import pytest
from reproduction_evidence import both, published, with_medians

from dainv.analysis.statistics import Estimate
from dainv.reproduction import claims
from dainv.reproduction.claims import FAILS, HOLDS, OPEN, Overhead
from dainv.reproduction.published import BASELINE, DYNAMICS, INVARIANCE, LAYERS


def overhead(low, high):
    return Overhead("ours", Estimate((low + high) / 2, low, high), "a machine")


def test_the_published_numbers_bear_out_every_claim():
    found = claims.verdicts([published(BASELINE)], [published(INVARIANCE)], [overhead(9, 9.9)])
    assert {verdict.claim: verdict.verdict for verdict in found} == {
        claim: HOLDS for claim in ("accuracy", "pixels", "depth", "growth", "two phases", "overhead")
    }


def test_exchanged_arms_bear_out_none_of_the_claims_about_invariance():
    found = claims.verdicts([published(INVARIANCE)], [published(BASELINE)], [])
    judged = {verdict.claim: verdict.verdict for verdict in found}
    assert [judged[claim] for claim in ("pixels", "depth", "growth", "two phases")] == [FAILS] * 4
    assert judged["overhead"] == OPEN


@pytest.mark.parametrize(
    ("shares", "verdict"),
    [
        ((0.915, 0.915), HOLDS),  # ± 0.8 points over 10,000 images
        ((0.915, 0.930), HOLDS),
        ((0.915, 0.908), OPEN),
        ((0.915, 0.890), FAILS),
        ((0.101, 0.102), OPEN),  # both guess
    ],
)
def test_similar_accuracy_over_images(shares, verdict):
    runs = [
        published(arm, accuracy=Estimate(share, share - 0.006, share + 0.006))
        for arm, share in zip((BASELINE, INVARIANCE), shares, strict=True)
    ]
    assert claims.accuracy(runs[:1], runs[1:]).verdict == verdict


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [((0.002, 0.003, 0.001), HOLDS), ((-0.03, -0.031, -0.032), FAILS), ((0.02, -0.02, 0.0), OPEN)],
)
def test_similar_accuracy_over_seeds(differences, verdict):
    def run(arm, seed, share):
        return published(arm, seed, accuracy=Estimate(share, share - 0.006, share + 0.006))

    one = [run(BASELINE, seed, 0.91 + 0.01 * seed) for seed in range(3)]
    other = [run(INVARIANCE, seed, 0.91 + 0.01 * seed + gap) for seed, gap in enumerate(differences)]
    found = claims.accuracy(one, other)
    assert found.verdict == verdict
    assert "over seeds, 3 seeds" in found.because


def test_the_baseline_rises_above_the_pixels_or_not_or_cannot_be_told():
    def judged(*medians, spread=0.001):
        runs = []
        for seed, values in enumerate(medians):
            run = with_medians(BASELINE, values, seed=seed)
            noise = np.linspace(-spread, spread, 41)
            moved = {layer: box.median + (noise if layer != "input" else 0) for layer, box in run.boxes.items()}
            runs.append(published(BASELINE, seed, boxes=run.boxes, medians=moved))
        return claims.pixels(runs).verdict

    below, above = [0.5, 0.4, 0.45], [0.5, 0.4, 0.6]
    assert judged(below) == HOLDS
    assert judged(above) == FAILS
    assert judged(below, above) == OPEN  # the seeds disagree
    assert judged(above, above) == FAILS
    assert judged(below, spread=0.2) == OPEN


@pytest.mark.parametrize(
    ("medians", "verdict"),
    [
        ([0.5, 0.5, 0.6, 0.8, 0.9, 0.6], HOLDS),
        ([0.5, 0.5, 0.6, 0.8, 0.9, 0.95], FAILS),  # the last layer goes on rising
        ([0.5, 0.9, 0.8, 0.7, 0.6, 0.5], FAILS),
        ([0.5, 0.5, 0.5, 0.5, 0.54, 0.5], FAILS),  # too little
        ([0.5, 0.6, 0.7], OPEN),  # too few layers
    ],
)
def test_rises_with_depth(medians, verdict):
    assert claims.depth([with_medians(INVARIANCE, medians)]).verdict == verdict


def test_depth_cannot_be_told_where_the_interval_spans_the_threshold():
    run = with_medians(INVARIANCE, [0.5, 0.5, 0.6, 0.8, 0.9, 0.6])
    noise = np.linspace(-0.5, 0.5, 41)
    wide = {layer: box.median + (noise if layer == "layer4" else 0 * noise) for layer, box in run.boxes.items()}
    assert claims.depth([published(INVARIANCE, boxes=run.boxes, medians=wide)]).verdict == OPEN


@pytest.mark.parametrize(
    ("ends", "verdict"),
    [
        ([(0.3, 0.5), (0.4, 0.6)], HOLDS),
        ([(0.3, 0.5), (0.6, 0.4)], FAILS),
        ([(0.3, 0.5), (0.4, 0.41)], OPEN),  # level
    ],
)
def test_growth_of_the_baseline(ends, verdict):
    curves = np.linspace(*np.array(ends).T, num=8)
    assert claims.growth([published(BASELINE, curves=curves)]).verdict == verdict


def test_growth_needs_two_epochs_and_all_seeds():
    assert claims.growth([published(BASELINE, curves=np.ones((1, 2)))]).verdict == OPEN
    up, down = np.linspace([0.3], [0.5], num=5), np.linspace([0.5], [0.3], num=5)
    assert claims.growth([published(BASELINE, curves=c) for c in (up, up)]).verdict == HOLDS
    assert claims.growth([published(BASELINE, curves=c) for c in (up, down)]).verdict == OPEN


def test_two_phases_each_way():
    humps = DYNAMICS[INVARIANCE].T
    assert claims.two_phases([published(INVARIANCE, curves=humps)]).verdict == HOLDS
    assert claims.two_phases([published(INVARIANCE, curves=humps[:5])]).verdict == OPEN  # too short
    falling = np.linspace(np.full(9, 0.6), np.full(9, 0.1), num=10)
    assert claims.two_phases([published(INVARIANCE, curves=falling)]).verdict == FAILS
    last_too = humps.copy()
    last_too[:, 8] = humps[:, 7]
    assert claims.two_phases([published(INVARIANCE, curves=last_too)]).verdict == FAILS
    disagreeing = [published(INVARIANCE, curves=humps), published(INVARIANCE, 1, curves=falling)]
    assert claims.two_phases(disagreeing).verdict == OPEN


def test_rise_and_fall_is_the_smaller_of_both_at_the_best_peak():
    curves = np.array([[0.5, 0.1, 0.9, 0.2], [0.2, 0.3, 0.5, 0.2], [0.6, 0.6, 0.7, 0.2], [0.3, 0.7, 0.1, 0.2]])
    assert claims.rise_and_fall(curves) == pytest.approx([0.3, 0.0, 0.2, 0.0])


@pytest.mark.parametrize(
    ("measured", "verdict"),
    [
        ([], OPEN),
        ([overhead(2, 6)], HOLDS),
        ([overhead(12, 15)], FAILS),
        ([overhead(8, 12)], OPEN),
        ([overhead(2, 6), overhead(12, 15)], FAILS),
    ],
)
def test_overhead(measured, verdict):
    assert claims.overhead(measured).verdict == verdict


def test_every_verdict_says_its_numbers_and_its_criterion():
    arms = both()
    for verdict in claims.verdicts(arms[BASELINE], arms[INVARIANCE], []):
        assert verdict.because.endswith(".")
        assert verdict.criterion
        assert "nan" not in verdict.because
    assert "layers 3–8" in claims.two_phases(arms[INVARIANCE]).criterion
    assert len(LAYERS) == 9
