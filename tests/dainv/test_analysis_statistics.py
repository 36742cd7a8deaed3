import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.cbook import boxplot_stats

from dainv.analysis.statistics import difference, proportion, resampled_medians, summarize
from dainv.summaries import Estimate


def summary_of(scores):
    return summarize(scores, resampled_medians({"x": scores}, 0, resamples=200)["x"])


@pytest.mark.parametrize("shape", [(1, 2), (1, 5), (3, 17), (5, 200)])
def test_summary_is_that_of_a_box_plot(shape):
    scores = np.random.default_rng(0).standard_t(2, size=shape)
    found = summary_of(scores)
    (expected,) = boxplot_stats(scores.ravel())
    assert found.n == scores.size
    assert found.median.value == pytest.approx(expected["med"])
    assert (found.box.q1, found.box.q3) == pytest.approx((expected["q1"], expected["q3"]))
    assert found.box[3:] == pytest.approx((expected["whislo"], expected["whishi"]))
    assert found.mean == pytest.approx(expected["mean"])
    assert found.median.low <= found.median.value <= found.median.high


@given(st.integers(1, 4), st.integers(2, 12), st.integers(0, 1000))
def test_resampled_medians_are_medians_of_resampled_images(repeats, n_images, seed):
    rng = np.random.default_rng(seed)
    sigma = {
        "tied": rng.integers(0, 3, (repeats, n_images)).astype(float),
        "free": rng.normal(size=(repeats, n_images)),
    }
    found = resampled_medians(sigma, seed, resamples=20)
    drawn = np.random.default_rng(seed).integers(0, n_images, (20, n_images))
    for layer, scores in sigma.items():
        np.testing.assert_allclose(found[layer], [np.median(scores[:, images]) for images in drawn])


def test_repeats_of_an_image_are_no_new_images():
    one = np.random.default_rng(0).normal(size=(1, 50))
    same_again = np.repeat(one, 5, axis=0)
    np.testing.assert_array_equal(resampled_medians({"x": one}, 3)["x"], resampled_medians({"x": same_again}, 3)["x"])


def test_interval_covers_the_true_median_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    estimates = []
    for _ in range(200):
        image = rng.normal(size=(1, 60))
        scores = image + 0.3 * rng.normal(size=(3, 60))
        estimates.append(summary_of(scores).median)
    assert 0.9 <= np.mean([estimate.low <= 0 <= estimate.high for estimate in estimates]) <= 0.99


def test_differences_are_paired():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(2, 80))
    sigma = {"one": scores, "other": scores + 0.01}
    resampled = resampled_medians(sigma, 0)
    one, other = (summarize(sigma[name], resampled[name]) for name in sigma)
    found = difference(one, other)
    assert found == pytest.approx((0.01, 0.01, 0.01))
    assert found.sign == 1
    assert one.median.high - one.median.low > 0.1


@pytest.mark.parametrize(
    ("low", "high", "sign"), [(0.1, 0.2, 1), (-0.2, -0.1, -1), (-0.1, 0.1, 0), (0.0, 0.1, 0), (-0.1, 0.0, 0)]
)
def test_sign_needs_the_whole_interval(low, high, sign):
    assert Estimate((low + high) / 2, low, high).sign == sign


def test_without_scores_there_is_nothing_to_resample():
    assert resampled_medians({}, 0) == {}


def test_proportion_has_the_interval_of_wilson():
    assert proportion(0.5, 100) == pytest.approx((0.5, 0.4038, 0.5962), abs=5e-5)
    assert proportion(1.0, 20).high == 1.0
