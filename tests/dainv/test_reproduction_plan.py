"""The plan of a reproduction, and the distances to the published figures."""

from dataclasses import asdict

import numpy as np
import pytest
import torch
from reproduction_evidence import both, every_epoch, published

from dainv import Groups, UserError, invariance_loss
from dainv.analysis.arms import changed_settings
from dainv.reproduction.distances import (
    VariantDistance,
    in_pairs,
    loss_differences,
    nearest,
    score_differences,
    shared_epochs,
    variant_distances,
)
from dainv.reproduction.planned_runs import plan_runs
from dainv.reproduction.published import ARMS, BASELINE, DYNAMICS_EPOCHS, INVARIANCE
from dainv.reproduction.reproduce import NOT_THE_RECIPE
from dainv.settings import TrainSettings


def test_a_plan_has_both_arms_of_each_seed_by_the_published_recipe():
    plan = plan_runs({}, [0, 3], 350)
    assert [run.folder for run in plan.main] == [
        "baseline-seed0",
        "invariance-seed0",
        "baseline-seed3",
        "invariance-seed3",
    ]
    assert plan.main[1].settings == TrainSettings()
    assert plan.main[2].settings == TrainSettings(alpha=0.0, seed=3)
    assert plan.variants == ()


@pytest.mark.parametrize("changed", [{}, {"alpha": 0.2}, {"alpha_schedule": "0:2,10:0.5"}, {"width": 0.5}])
def test_what_is_not_the_published_recipe_is_said(changed):
    settings = plan_runs({"fused": True, **changed}, [0], 40).main[-1].settings
    assert changed_settings({"settings": asdict(settings)}, NOT_THE_RECIPE) == changed


def test_a_budget_scales_the_milestones_along():
    settings = plan_runs({}, [0], 35).main[0].settings
    rates = [settings.learning_rate_at(epoch, 35) for epoch in (19, 20, 25, 30)]
    assert rates == pytest.approx([1e-2, 1e-3, 1e-4, 1e-5])


def test_variants_change_what_they_are_called_and_keep_the_learning_rate():
    plan = plan_runs({"width": 0.5}, [1], 350, ["batch-norm", "nearest+printed"])
    runs = {run.folder: run.settings for run in plan.variants}
    assert list(runs)[:3] == [
        "variants/recipe-baseline-seed1",
        "variants/recipe-invariance-seed1",
        "variants/batch-norm-baseline-seed1",
    ]
    changed = runs["variants/nearest+printed-invariance-seed1"]
    assert (changed.interpolation, changed.normalization, changed.batch_norm) == ("nearest", "printed", False)
    assert (changed.width, changed.epochs, changed.alpha) == (0.5, 11, 0.1)
    assert changed.learning_rate_at(10, 11) == changed.learning_rate


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (({"seed": 1}, [0], 1), "--seed: use --seeds"),
        (({"epochs": 1}, [0], 1), "--epochs: use --budget"),
        (({"steps": 5}, [0], 1), "--steps: use --budget"),
        (({"model": "resnet18"}, [0], 1), "--model: the published figures are of All-CNN-C"),
        (({"alpha": 0.0}, [0], 1), "--alpha: the invariance arm needs a share above 0"),
        (({}, [0, 0], 1), "--seeds: expected different seeds"),
        (({}, [], 1), "--seeds: expected different seeds, got none"),
        (({}, [0], 1, ["nearer"]), "--variants: there is no 'nearer'"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(arguments, says):
    with pytest.raises(UserError, match=says):
        plan_runs(*arguments)


def test_losses_as_printed_become_means_over_pairs():
    features = torch.rand(12, 5, dtype=torch.float64)
    groups = Groups.consecutive(3, 4)
    printed, pairs = (float(invariance_loss(features, groups, normalization=n)) for n in ("printed", "pairs"))
    settings = TrainSettings(batch_size=12, views=4, normalization="printed")
    assert in_pairs(np.array([printed]), settings) == pytest.approx([pairs])
    assert in_pairs(np.array([pairs]), TrainSettings()) == pytest.approx([pairs])


def test_the_published_run_is_at_no_distance_from_itself():
    curves = {arm: every_epoch(arm) for arm in ARMS}
    arms = {arm: [published(arm, curves=curves[arm])] for arm in ARMS}
    for arm, runs in arms.items():
        found = loss_differences(runs)
        assert list(found) == list(DYNAMICS_EPOCHS)
        assert np.allclose(list(found.values()), 0)
        assert all(difference.value == 0 for _, difference in score_differences(runs).values())
        assert variant_distances({"itself": {arm: [curves[arm]] for arm in ARMS}})[0].mean == pytest.approx(0)


def test_differences_have_the_sign_of_ours_minus_published():
    runs = [published(BASELINE, curves=every_epoch(BASELINE, 4) + 0.1)]
    assert shared_epochs(4) == [0, 1, 3]
    assert {epoch: values[0] for epoch, values in loss_differences(runs).items()} == pytest.approx(
        {0: 0.1, 1: 0.1, 3: 0.1}
    )
    swapped = score_differences([published(BASELINE, boxes=both()[INVARIANCE][0].boxes)])
    assert swapped["layer4"][1].value == pytest.approx(0.866 - 0.425)


def test_the_nearest_variant_comes_first():
    exact = {arm: [every_epoch(arm, 11)] for arm in ARMS}
    off = {BASELINE: [exact[BASELINE][0] + 0.3], INVARIANCE: [exact[INVARIANCE][0]]}
    found = variant_distances({"off": off, "exact": exact})
    assert [distance.variant for distance in found] == ["exact", "off"]
    assert found[1].by_arm[BASELINE] == pytest.approx((0.3,))
    assert found[1].overall == pytest.approx((0.3 / 2**0.5,))
    assert "Nearest to Figure 2 is exact" in nearest(found)
    assert "One seed" in nearest(found)


def test_how_sure_the_nearest_variant_is_comes_from_the_seeds():
    def distance(name, *values):
        return VariantDistance(name, {}, values)

    assert "in every one of 2 seeds is a" in nearest([distance("a", 0.1, 0.2), distance("b", 0.3, 0.4)])
    assert "not in every one of 2 seeds" in nearest([distance("a", 0.1, 0.4), distance("b", 0.3, 0.3)])
    assert "nothing to compare" in nearest([distance("a", 0.1)])
