"""Each verdict comes out each way, from numbers alone; the paper's own numbers bear out the paper's claims."""

import numpy as np
import pytest
from reproduction_evidence import both, every_epoch, published, with_medians

from dainv.reproduction import claims
from dainv.reproduction.overhead import Overhead
from dainv.reproduction.overhead import overhead as judged_overhead
from dainv.reproduction.published import BASELINE, INVARIANCE, LAYERS
from dainv.reproduction.verdict import FAILS, HOLDS, OPEN
from dainv.summaries import Estimate


def overhead(low, high):
    return Overhead("ours", Estimate((low + high) / 2, low, high), "a machine", "a network")


def test_the_published_numbers_bear_out_every_claim():
    found = claims.verdicts([published(BASELINE)], [published(INVARIANCE)], [overhead(9, 9.9)])
    assert {verdict.claim: verdict.verdict for verdict in found} == {
        claim: HOLDS for claim in ("accuracy", "pixels", "effect", "depth", "growth", "two phases", "overhead")
    }


def test_exchanged_arms_bear_out_none_of_the_claims_about_invariance():
    found = claims.verdicts([published(INVARIANCE)], [published(BASELINE)], [])
    judged = {verdict.claim: verdict.verdict for verdict in found}
    assert [judged[claim] for claim in ("pixels", "effect", "depth", "growth", "two phases")] == [FAILS] * 5
    assert judged["overhead"] == OPEN


@pytest.mark.parametrize(
    ("shares", "verdict"),
    [
        ((0.915, 0.915), HOLDS),  # ± 0.8 points over 10,000 images
        ((0.915, 0.930), HOLDS),
        ((0.915, 0.908), OPEN),
        ((0.915, 0.890), FAILS),
    ],
)
def test_similar_accuracy_over_images(shares, verdict):
    runs = [
        published(arm, accuracy=Estimate(share, share - 0.006, share + 0.006))
        for arm, share in zip((BASELINE, INVARIANCE), shares, strict=True)
    ]
    assert claims.accuracy(runs[:1], runs[1:]).verdict == verdict


def test_two_seeds_on_the_same_images_are_no_more_images():
    def reach(n_seeds):
        arms = [[published(arm, seed) for seed in range(n_seeds)] for arm in (BASELINE, INVARIANCE)]
        found = claims.accuracy(*arms).numbers["difference"]
        return found["high"] - found["low"]

    assert reach(2) == pytest.approx(reach(1))


def test_seeds_that_disagree_about_the_accuracy_leave_it_open():
    """Their mean would lie clearly below the threshold; one of the two does not."""
    runs = {arm: [published(arm, seed) for seed in (0, 1)] for arm in (BASELINE, INVARIANCE)}
    shares = {BASELINE: (0.90, 0.90), INVARIANCE: (0.84, 0.91)}
    for arm, values in shares.items():
        runs[arm] = [
            published(arm, seed, accuracy=Estimate(value, value - 0.006, value + 0.006))
            for seed, value in enumerate(values)
        ]
    found = claims.accuracy(runs[BASELINE], runs[INVARIANCE])
    assert found.verdict == OPEN
    assert "87.5 % with the objective, 90.0 % without: −2.5 points" in found.because
    assert found.because.endswith("over images, 2 seeds). Seed by seed: −6.0 and +1.0.")


def test_of_networks_that_guess_nothing_is_said():
    guessing = Estimate(0.101, 0.095, 0.107)
    arms = [[published(arm, accuracy=guessing)] for arm in (BASELINE, INVARIANCE)]
    found = claims.verdicts(*arms, [overhead(2, 6)])
    assert [verdict.verdict for verdict in found] == [OPEN] * 6 + [HOLDS]
    assert all("better than guessing" in verdict.because for verdict in found[:-1])


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


def test_the_highest_layer_is_one_number_not_as_many_chances_as_layers():
    """Nine layers exactly at the threshold, each with its own noise: together they say no more than one."""
    run = with_medians(BASELINE, [0.5, *[0.5 + claims.RISE] * 9])
    rng = np.random.default_rng(0)
    medians = {layer: box.median + 0.01 * rng.standard_normal(2000) for layer, box in run.boxes.items()}
    found = claims.pixels([published(BASELINE, boxes=run.boxes, medians=medians)])
    assert found.numbers["highest"]["high"] > max(above["high"] for above in found.numbers["above_pixels"].values())


@pytest.mark.parametrize(
    ("gain", "verdict", "says"),
    [
        ([0.1, 0.2, 0.3], HOLDS, "at layer 1 to +0.300"),
        ([0.1, -0.2, 0.3], FAILS, "lower at layer 2"),
        ([0.1, 0.0, 0.3], OPEN, "lower at no layer"),
    ],
)
def test_the_objective_makes_every_layer_more_invariant_or_not(gain, verdict, says):
    one = [0.5, 0.4, 0.4, 0.4]
    other = [0.5, *(0.4 + value for value in gain)]
    noise = np.linspace(-0.1, 0.1, 41)  # of the images, which both runs are scored on: it does not blur what they gain
    runs = []
    for arm, medians in ((BASELINE, one), (INVARIANCE, other)):
        run = with_medians(arm, medians)
        chance = noise + (0.01 * np.sin(np.arange(41)) if arm == INVARIANCE else 0)
        drawn = {layer: box.median + chance for layer, box in run.boxes.items()}
        runs.append([published(arm, boxes=run.boxes, medians=drawn)])
    found = claims.effect(*runs)
    assert found.verdict == verdict
    assert says in found.because


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


def test_where_scores_fall_on_the_way_is_said():
    found = claims.depth([with_medians(INVARIANCE, [0.5, 0.6, 0.5, 0.8, 0.9, 0.6])])
    assert found.because.endswith("Lower than at the layer before at layers 2 and 5.")


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
    curves = np.linspace(*np.array(ends).T, num=350)
    assert claims.growth([published(BASELINE, curves=curves)]).verdict == verdict


def test_growth_needs_two_epochs_and_all_seeds():
    assert claims.growth([published(BASELINE, curves=np.ones((1, 2)))]).verdict == OPEN
    up, down = np.linspace([0.3], [0.5], num=5), np.linspace([0.5], [0.3], num=5)
    assert claims.growth([published(BASELINE, curves=c) for c in (up, up)]).verdict == HOLDS
    found = claims.growth([published(BASELINE, curves=c) for c in (up, down)])
    assert found.verdict == OPEN
    assert "by −0.20 to +0.20, 2 seeds. It did neither in all seeds at layer 1." in found.because


def test_what_the_published_run_did_not_show_either_is_not_held_against_a_short_run():
    """At epoch 3 of Figure 2 the baseline's losses have fallen, at epoch 25 layer 3 has not."""
    fallen = np.linspace(np.full(9, 0.6), np.full(9, 0.1), num=5)
    found = claims.growth([published(BASELINE, curves=fallen)])
    assert found.verdict == OPEN
    assert "if it ended at its epoch 3," in found.because
    risen = claims.growth([published(BASELINE, curves=1 - fallen)])
    assert risen.verdict == HOLDS
    longer = claims.two_phases([published(INVARIANCE, curves=np.repeat(fallen, 8, axis=0))])
    assert longer.verdict == OPEN
    assert "if it ended at its epoch 25," in longer.because


def test_two_phases_each_way():
    humps = every_epoch(INVARIANCE)
    assert claims.two_phases([published(INVARIANCE, curves=humps)]).verdict == HOLDS
    assert claims.two_phases([published(INVARIANCE, curves=humps[::70])]).verdict == OPEN  # too short
    falling = np.linspace(np.full(9, 0.6), np.full(9, 0.1), num=350)
    assert claims.two_phases([published(INVARIANCE, curves=falling)]).verdict == FAILS
    last_too = humps.copy()
    last_too[:, 8] = humps[:, 7]
    assert claims.two_phases([published(INVARIANCE, curves=last_too)]).verdict == FAILS
    disagreeing = [published(INVARIANCE, curves=humps), published(INVARIANCE, 1, curves=falling)]
    found = claims.two_phases(disagreeing)
    assert found.verdict == OPEN
    assert "did not at layers 1, 2 and 9, 2 seeds. Seeds differ at layers 3–8." in found.because


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
    assert judged_overhead(measured).verdict == verdict


def test_the_way_of_the_paper_is_named_beside_ours():
    ours = overhead(2, 6)
    assert "paper's way" not in judged_overhead([ours]).because
    both_ways = judged_overhead([ours._replace(published=Estimate(63.9, 58.0, 66.0))])
    assert "+4.0 % (2.0 to 6.0) on a machine, of a network; " in both_ways.because
    assert both_ways.because.endswith("the paper's way, adds 63.9 % there.")


def test_every_verdict_says_its_numbers_and_its_criterion():
    arms = both()
    for verdict in claims.verdicts(arms[BASELINE], arms[INVARIANCE], []):
        assert verdict.because.endswith(".")
        assert verdict.criterion
        assert "nan" not in verdict.because
    assert "layers 3–8" in claims.two_phases(arms[INVARIANCE]).criterion
    assert len(LAYERS) == 9
