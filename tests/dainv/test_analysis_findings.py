import numpy as np
from analysis_runs import LAYERS, analyzed_run, arms_of, levels

from dainv.analysis.comparison import compare
from dainv.analysis.dynamics import Dynamics
from dainv.analysis.findings import findings
from dainv.analysis.results import Arm


def said_of(arms):
    return [finding.sentence for finding in findings(arms, compare(arms))]


def sentence(found, start):
    (one,) = [text for text in found if text.startswith(start)]
    return one


def test_what_is_said_of_runs_whose_scores_are_known(tmp_path):
    base = analyzed_run(
        tmp_path, "base", alpha=0.0, sigma=levels(0.5, 0.3, 0.3, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.7), accuracy=0.5
    )
    other = analyzed_run(tmp_path, "other", sigma=levels(0.5, 0.3, 0.3, 0.6, 0.6, 0.6, 0.6, 0.95, 0.9, 0.6))
    found = said_of(arms_of(base, other))
    assert "50.0 % (33.2 to 66.8 %) for the baseline after epoch 3 (n = 30 images)" in sentence(found, "Test accuracy")
    assert "the median invariance score σ is 0.50" in sentence(found, "In the pixels of data")
    assert (
        "Baseline: the median σ is above the pixels' at layer 9, below the pixels' at layers 1 and 2, "
        "not clearly different from the pixels' at layers 3–8. It is highest at layer 9, 0.70." in found
    )
    assert "highest at layer 7, 0.95, and 0.60 at layer 9" in sentence(
        found, "Data augmentation invariance: the median"
    )
    compared = sentence(found, "Compared with the baseline")
    assert "higher at layers 3–8" in compared
    assert "higher in 100 % of the images, r = 1.00" in compared
    assert (
        "lower at layer 9 (most clearly at layer 9: lower in 100 % of the images, r = −1.00, median −0.10" in compared
    )
    assert "not clearly different at layers 1 and 2" in compared
    assert "only runs with other seeds can say" in sentence(found, "Each arm is one run")


def test_a_difference_that_is_certain_but_hardly_there_is_called_so(tmp_path):
    rng = np.random.default_rng(0)
    scores = {layer: rng.normal(size=(1, 20000)) for layer in ("input", *LAYERS)}
    moved = {layer: sigma + rng.normal(0.05, 1.0, size=sigma.shape) for layer, sigma in scores.items()}
    base, other = (
        analyzed_run(tmp_path, name, alpha=alpha, sigma=sigma)
        for name, alpha, sigma in (("base", 0.0, scores), ("other", 0.1, moved))
    )
    compared = sentence(said_of(arms_of(base, other)), "Compared with the baseline")
    assert "different beyond chance but hardly (|r| < 0.1) at all 9 layers" in compared


def seeded(folder, name, alpha, *shifts):
    runs = tuple(
        analyzed_run(
            folder,
            f"{name}{seed}",
            alpha=alpha,
            seed=seed,
            label=f"{name}, seed {seed}",
            sigma=levels(*[0.5] * 10, shift=shift),
            accuracy=0.9 + (0.03 * (seed % 2) if alpha else 0.0),
        )
        for seed, shift in enumerate(shifts)
    )
    return Arm(name, runs)


def test_what_three_seeds_can_and_cannot_show(tmp_path):
    arms = [seeded(tmp_path, "baseline", 0.0, 0.0, 0.01, 0.03), seeded(tmp_path, "inv", 0.1, 0.2, 0.22, 0.22)]
    found = said_of(arms)
    assert "in 3 pairs of runs, σ of inv is higher in every pair of runs at all 9 layers (r = 1.00)" in sentence(
        found, "Compared with the baseline image by image"
    )
    over_seeds = sentence(found, "Over seeds (3 runs")
    assert "higher at all 9 layers (most at layer 1: +0.20, 95 % t interval" in over_seeds
    assert "paired by seed" in over_seeds
    assert "so few runs cannot reach a p below 0.25" in sentence(found, "The difference has one sign in 3 pairs")
    assert "does not show them to be equal" in sentence(found, "Over seeds, the test accuracy of inv")


def test_two_seeds_that_disagree_are_not_taken_together(tmp_path):
    base, other = seeded(tmp_path, "baseline", 0.0, 0.0, 0.0), seeded(tmp_path, "inv", 0.1, 0.2, 0.2)
    for run, shift in zip(other.runs, (-0.4, 0.4), strict=True):
        run.scores.sigma["input"] = run.scores.sigma["input"] + shift
    found = said_of([base, other])
    assert "Inv (2 runs): the median σ is not in every run clearly on one side of the pixels' at all 9 layers." in (
        sentence(found, "Inv (2 runs): the median")
    )
    assert "91.5 % for inv, the mean of 2 runs (90.0 to 93.0 %; t interval over seeds 72.4 to 100.0 %)" in (
        sentence(found, "Test accuracy")
    )
    over_seeds = sentence(found, "Over seeds (2 runs of the baseline, 2 of inv), no layer is singled out")
    assert over_seeds.endswith("The mean of the medians differs by +0.20 at layer 1.")
    alike = said_of([base, seeded(tmp_path, "same", 0.0, 0.1, 0.1)])
    assert sentence(alike, "The mean test accuracy differs by 0.0 points; as the differences have no spread over runs")


def test_one_run_against_three_has_no_interval(tmp_path):
    arms = [seeded(tmp_path, "baseline", 0.0, 0.0), seeded(tmp_path, "inv", 0.1, 0.2, 0.22, 0.22)]
    found = said_of(arms)
    assert "no interval can be given" in sentence(found, "Over seeds (1 run of the baseline, 3 of inv)")
    assert "there is no interval" in sentence(found, "The mean test accuracy differs")


def test_nothing_is_said_of_layers_without_a_score(tmp_path):
    nothing = analyzed_run(
        tmp_path, "dead", alpha=0.0, sigma={layer: np.full((2, 40), np.nan) for layer in ("input", *LAYERS)}
    )
    assert "Baseline: no layer has a score to compare with the pixels'." in said_of(arms_of(nothing))


def test_a_run_that_has_only_begun(tmp_path):
    begun = analyzed_run(tmp_path, "begun", alpha=0.0, epochs=0)
    assert sentence(said_of(arms_of(begun)), "Baseline: no epoch is complete yet")
    short = analyzed_run(tmp_path, "short", alpha=0.0, epochs=3)
    assert sentence(said_of(arms_of(short)), "Baseline: 3 epochs are too few to tell phases")


def test_phases_in_words(tmp_path):
    run = analyzed_run(tmp_path, "run", epochs=20)
    epochs = np.arange(21)
    turned = np.interp(epochs, [0, 3, 10, 20], [0.5, 0.2, 0.8, 0.4])
    train = np.stack([turned if place == 4 else 0.5 + 0.01 * epochs for place in range(9)], axis=1)
    object.__setattr__(run, "dynamics", Dynamics(tuple(LAYERS), epochs, train, train, epochs / 20, epochs / 20))
    said = sentence(said_of(arms_of(run)), "Data augmentation invariance: over 20 epochs")
    assert "rose at layers 1–4 and 6–9" in said
    assert "fell, then rose, then fell at layer 5 (turning at epoch 3 and 10)" in said
