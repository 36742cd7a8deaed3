import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from dainv.analysis.signed_rank import holm, paired_tests


def test_by_hand():
    one = {"x": np.zeros((1, 5))}
    other = {"x": np.array([[1.0, 2.0, -3.0, 4.0, 5.0]])}
    test = paired_tests(one, other)["x"]
    assert test.images == 5
    assert test.higher == pytest.approx(0.8)
    assert test.effect == pytest.approx((12 - 3) / 15)  # ranks 1, 2, 4, 5 against 3
    assert test.p == pytest.approx(2 * 5 / 2**5)  # none, 1, 2, 3 or 1 + 2 is lower: 5 of 32 signs
    assert test.p == pytest.approx(stats.wilcoxon(other["x"][0]).pvalue)


def test_an_image_counts_with_the_mean_of_its_transformations():
    one = {"x": np.zeros((2, 6))}
    other = {"x": np.array([[5.0] * 6, [-1.0, -2.0, -3.0, -4.0, -4.5, -9.0]])}
    test = paired_tests(one, other)["x"]
    assert test.images == 6
    assert test.higher == pytest.approx(5 / 6)


@pytest.mark.parametrize("sign", [1, -1])
def test_effect_is_one_where_all_images_agree(sign):
    rng = np.random.default_rng(0)
    one = {"x": rng.normal(size=(3, 100))}
    test = paired_tests(one, {"x": one["x"] + sign * rng.uniform(0.1, 1, size=(3, 100))})["x"]
    assert test.effect == pytest.approx(sign)
    assert test.sign == sign


def test_equal_scores_are_no_evidence():
    same = {"x": np.ones((2, 9)), "y": np.ones((2, 9))}
    for test in paired_tests(same, same).values():
        assert (test.images, test.effect, test.p, test.p_holm, test.sign) == (0, 0.0, 1.0, 1.0, 0)
    assert paired_tests({}, {}) == {}


def test_false_alarms_over_layers_stay_at_five_percent():
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(100):
        one, other = ({layer: rng.normal(size=(1, 60)) for layer in range(6)} for _ in range(2))
        alarms += any(test.sign for test in paired_tests(one, other).values())
    assert alarms / 100 <= 0.1


def test_holm_by_hand():
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm(np.array([0.6, 0.7])), [1.0, 1.0])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_is_between_nothing_and_bonferroni(values):
    p = np.array(values)
    corrected = holm(p)
    assert np.all(corrected >= p)
    assert np.all(corrected <= np.minimum(1, p * len(p)) + 1e-15)
    assert np.all(np.diff(corrected[np.argsort(p, kind="stable")]) >= -1e-15)
