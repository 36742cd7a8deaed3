import warnings

import numpy as np
import pytest
from scipy import stats

from dainv.analysis.seeds import seed_difference, seed_mean


def test_t_interval_by_hand():
    mean = seed_mean([0.4, 0.5, 0.6])
    reach = 4.302653 * 0.1 / 3**0.5  # two degrees of freedom
    assert (mean.value, mean.low, mean.high) == pytest.approx((0.5, 0.5 - reach, 0.5 + reach))
    assert (mean.least, mean.most, mean.n) == (0.4, 0.6, 3)


def test_one_run_has_no_interval():
    mean = seed_mean([0.4])
    assert (mean.value, mean.low, mean.high, mean.n) == (0.4, None, None, 1)
    found = seed_difference([0.4], [0.5, 0.6], paired=False)
    assert found.value == pytest.approx(0.15)
    assert (found.low, found.p, found.sign) == (None, None, 0)


def test_two_runs_say_little():
    mean = seed_mean([0.4, 0.5])
    assert mean.high - mean.low > 1.2


@pytest.mark.parametrize("paired", [True, False])
def test_differences_are_those_of_the_t_tests(paired):
    rng = np.random.default_rng(0)
    one, other = rng.normal(0.4, 0.1, 5), rng.normal(0.6, 0.1, 5)
    found = seed_difference(one, other, paired=paired)
    expected = stats.ttest_rel(other, one) if paired else stats.ttest_ind(other, one, equal_var=False)
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval()))
    assert found.low <= found.value <= found.high
    assert found.pairs == (5 if paired else 25)


def test_pairing_takes_away_what_seeds_share():
    seeds = np.array([0.0, 0.3, -0.2, 0.1])
    one, other = 0.4 + seeds, 0.45 + seeds + np.array([0.001, -0.002, 0.0, 0.001])
    assert seed_difference(one, other, paired=True).p < 1e-4
    assert seed_difference(one, other, paired=False).p > 0.5


@pytest.mark.parametrize(
    ("n", "paired", "least"), [((3, 3), True, 0.25), ((3, 3), False, 0.1), ((5, 5), True, 0.0625), ((1, 1), True, 1.0)]
)
def test_what_so_few_runs_could_show_without_assumptions(n, paired, least):
    found = seed_difference(np.arange(n[0]), 10 + np.arange(n[1]), paired=paired)
    assert found.least_rank_p == pytest.approx(least)
    if not paired:
        ranks = stats.mannwhitneyu(np.arange(n[0]), 10 + np.arange(n[1]), method="exact").pvalue
        assert found.least_rank_p == pytest.approx(ranks)


def test_runs_without_spread():
    """Two seeds of which the accuracies over few images differ by as much are no proof."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert seed_difference([0.5, 0.5], [0.74, 0.75, 0.76], paired=False).low > 0.2
    for one, other, paired in (([0.5, 0.6], [0.75, 0.85], True), ([0.5, 0.5], [0.75, 0.75], False)):
        assert seed_difference(one, other, paired=paired)[:4] == pytest.approx((0.25, None, None, None))
